//! Stores the outbox: messages written in the transaction of their cause and published after its commit.

pub(crate) mod parked;
pub(crate) mod prune;

use tokio::sync::Notify;

use crate::error::{Error, Result};
use crate::ids::MerchantId;
use crate::limits::OUTBOX_SHARDS;
use crate::model::outbox::{OutboxRow, Topic, TopicSet};
use crate::model::timer::TimerKind;
use crate::store::followers::Followers;
use crate::store::rows::{column, limit_of, list_json};
use crate::store::sql::{Connection, Readers, Row, query, query_scalar};
use crate::store::tx::Tx;

/// `unsent` of a row that waits to be published.
pub(super) const WAITING: i64 = 1;
/// `unsent` of a row that has been published.
pub(super) const SENT: i64 = 0;
/// `unsent` of a row that the broker refuses for good.
pub(super) const PARKED: i64 = 2;

/// Wakes who publishes a topic when a commit has written messages for it.
#[derive(Debug, Default)]
pub(crate) struct OutboxWritten {
    topics: [Notify; Topic::ALL.len()],
    followers: Followers,
}

/// What a commit has put into the outbox.
#[derive(Debug, Default)]
pub(super) struct Written {
    topics: TopicSet,
    /// Whose events are among it.
    merchants: Vec<MerchantId>,
}

impl OutboxWritten {
    /// Ends when messages for the topic have been written since the last call.
    pub(crate) async fn written(&self, topic: Topic) {
        if let Some(written) = self.topics.get(topic.place()) {
            written.notified().await;
        }
    }

    /// Who waits for events.
    pub(super) fn followers(&self) -> &Followers {
        &self.followers
    }

    pub(super) fn wake(&self, written: &Written) {
        self.followers.wake(&written.merchants);
        for written in written
            .topics
            .topics()
            .filter_map(|topic| self.topics.get(topic.place()))
        {
            written.notify_one();
        }
    }
}

/// A row that waits to be published.
#[derive(Debug)]
pub(crate) struct Unsent {
    pub(crate) seq: i64,
    pub(crate) message_id: String,
    pub(crate) subject: String,
    pub(crate) tag: String,
    pub(crate) deliver_at_ms: Option<i64>,
    pub(crate) body: String,
}

/// Which process relays shards, and for how long at a time.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) owner: String,
    pub(crate) lease_ms: i64,
}

/// Rows of a topic by their outcome at the broker, named by `seq`.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) topic: Topic,
    /// Timer messages that are published.
    pub(crate) timers: Vec<i64>,
    /// Events that are published.
    pub(crate) events: Vec<i64>,
    /// Messages that the broker refuses for good, and why.
    pub(crate) refused: Vec<(i64, String)>,
}

/// The shard of a subject: FNV-1a, written out because it must stay the same for ever.
fn shard_of(subject: &str) -> u16 {
    let hash = subject
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    // Folded, since a last character alone moves few of its bits.
    let folded = hash ^ (hash >> 32);
    u16::try_from(folded % u64::from(OUTBOX_SHARDS)).unwrap_or(0)
}

/// Writes the rows that the transaction has collected; answers whom they are for.
pub(super) async fn flush(tx: &mut Tx) -> Result<Written> {
    let woken = tx.woken();
    let (connection, rows) = tx.waiting_outbox();
    let mut written = Written {
        topics: woken,
        merchants: Vec::new(),
    };
    for row in rows {
        written.topics.insert(row.topic);
        if row.topic == Topic::Events && !written.merchants.contains(&row.merchant_id) {
            written.merchants.push(row.merchant_id.clone());
        }
    }
    if !rows.is_empty() {
        insert(connection, rows).await?;
    }
    Ok(written)
}

async fn insert(connection: &mut Connection, rows: &[OutboxRow]) -> Result<()> {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                &row.merchant_id,
                shard_of(&row.subject),
                row.topic.stored(),
                &row.message_id,
                &row.subject,
                row.tag,
                row.deliver_at_ms,
                &row.body,
                row.created_ms,
            )
        })
        .collect();
    query(
        "insert into outbox
             (merchant_id, shard, topic, message_id, subject, tag, deliver_at_ms, body, created_ms, unsent)
         select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
                value ->> 7, value ->> 8, ?
         from json_each(?)",
    )
    .bind(WAITING)
    .bind(list_json(&rows))
    .execute(connection)
    .await?;
    Ok(())
}

/// When the oldest row of the topic that waits to be published was written, in ms since the Unix epoch.
pub(crate) async fn oldest_waiting(readers: &Readers, topic: Topic) -> Result<Option<i64>> {
    let oldest = query_scalar(
        "select created_ms from outbox where unsent > 0 and unsent = ? and topic = ? order by seq limit 1",
    )
    .bind(WAITING)
    .bind(topic.stored())
    .fetch_optional(readers)
    .await?;
    Ok(oldest)
}

/// When the oldest row of a topic that waits was written.
macro_rules! oldest {
    ($topic:literal) => {
        concat!(
            "(select created_ms from outbox where unsent > 0 and unsent = 1 and topic = ",
            $topic,
            " order by seq limit 1) as topic_",
            $topic
        )
    };
}

/// Since when, in ms since the Unix epoch, the oldest message of each kind of timer has waited to be published.
pub(crate) async fn waiting_since(
    readers: &Readers,
) -> Result<[Option<i64>; TimerKind::ALL.len()]> {
    let row = query(concat!(
        "select ",
        oldest!(1),
        ", ",
        oldest!(2),
        ", ",
        oldest!(3),
        ", ",
        oldest!(4),
        ", ",
        oldest!(5),
        ", ",
        oldest!(6)
    ))
    .fetch_one(readers)
    .await?;
    // The topic of a kind has its number.
    Ok([
        column(&row, "topic_1")?,
        column(&row, "topic_2")?,
        column(&row, "topic_3")?,
        column(&row, "topic_4")?,
        column(&row, "topic_5")?,
        column(&row, "topic_6")?,
    ])
}

/// What is in the outbox, for the metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// When the oldest row that waits was written, in ms since the Unix epoch.
    pub(crate) oldest_ms: Option<i64>,
    /// Rows that wait, by topic. Topics without any are left out.
    pub(crate) waiting: Vec<(Topic, i64)>,
    /// Rows that the broker refuses for good.
    pub(crate) parked: i64,
}

/// Measures the outbox.
pub(crate) async fn measure(readers: &Readers) -> Result<Measured> {
    let rows = query(
        "select unsent, topic, count(*) as messages, min(created_ms) as oldest_ms from outbox
         where unsent > 0 group by unsent, topic",
    )
    .fetch_all(readers)
    .await?;
    let mut measured = Measured::default();
    for row in &rows {
        let (unsent, messages): (i64, i64) = (column(row, "unsent")?, column(row, "messages")?);
        if unsent == PARKED {
            measured.parked += messages;
            continue;
        }
        let oldest_ms: i64 = column(row, "oldest_ms")?;
        measured.oldest_ms = measured.oldest_ms.into_iter().chain([oldest_ms]).min();
        measured.waiting.push((topic_column(row)?, messages));
    }
    Ok(measured)
}

pub(super) fn topic_column(row: &Row) -> Result<Topic> {
    let topic: i64 = column(row, "topic")?;
    Topic::from_stored(topic).ok_or_else(|| Error::Unreadable {
        what: "topic",
        detail: format!("{topic} is not the number of a topic"),
    })
}

/// How many rows wait to be published.
pub(crate) async fn count_waiting(readers: &Readers) -> Result<u64> {
    let waiting: i64 = query_scalar("select count(*) from outbox where unsent > 0 and unsent = ?")
        .bind(WAITING)
        .fetch_one(readers)
        .await?;
    Ok(u64::try_from(waiting).unwrap_or(0))
}

/// Which rows of a topic to publish next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Next<'a> {
    pub(crate) topic: Topic,
    pub(crate) shards: &'a [i64],
    /// Only rows after this one.
    pub(crate) after_seq: i64,
    pub(crate) limit: usize,
}

/// The next rows, oldest first.
pub(crate) async fn next(readers: &Readers, wanted: Next<'_>) -> Result<Vec<Unsent>> {
    let rows = query(
        "select seq, message_id, subject, tag, deliver_at_ms, body from outbox
         where unsent > 0 and unsent = ? and topic = ? and seq > ?
           and shard in (select value from json_each(?))
         order by seq limit ?",
    )
    .bind(WAITING)
    .bind(wanted.topic.stored())
    .bind(wanted.after_seq)
    .bind(list_json(wanted.shards))
    .bind(limit_of(wanted.limit))
    .fetch_all(readers)
    .await?;
    rows.iter().map(unsent).collect()
}

fn unsent(row: &Row) -> Result<Unsent> {
    Ok(Unsent {
        seq: column(row, "seq")?,
        message_id: column(row, "message_id")?,
        subject: column(row, "subject")?,
        tag: column(row, "tag")?,
        deliver_at_ms: column(row, "deliver_at_ms")?,
        body: column(row, "body")?,
    })
}

/// Leases the shards that are free or the owner's already; answers those that the owner holds then.
pub(crate) async fn lease_shards(tx: &mut Tx, lease: &Lease) -> Result<Vec<i64>> {
    let now_ms = tx.now_ms();
    let shards: Vec<u16> = (0..OUTBOX_SHARDS).collect();
    let leased = query_scalar(
        "insert into outbox_lease (shard, owner, until_ms)
         select value, ?1, ?2 from json_each(?3) where true
         on conflict (shard) do update set owner = excluded.owner, until_ms = excluded.until_ms
             where owner = excluded.owner or until_ms <= ?4
         returning shard",
    )
    .bind(&lease.owner)
    .bind(now_ms + lease.lease_ms)
    .bind(list_json(&shards))
    .bind(now_ms)
    .fetch_all(tx.conn())
    .await?;
    Ok(leased)
}

/// Records the outcome of rows. Published timer messages are deleted, since each timer has a row of its own; events
/// are kept.
pub(crate) async fn record_published(tx: &mut Tx, published: &Published) -> Result<()> {
    let now_ms = tx.now_ms();
    if !published.timers.is_empty() {
        query("delete from outbox where seq in (select value from json_each(?))")
            .bind(list_json(&published.timers))
            .execute(tx.conn())
            .await?;
    }
    if !published.events.is_empty() {
        query(
            "update outbox set unsent = ?, sent_ms = ?
             where seq in (select value from json_each(?))",
        )
        .bind(SENT)
        .bind(now_ms)
        .bind(list_json(&published.events))
        .execute(tx.conn())
        .await?;
    }
    if !published.refused.is_empty() {
        park(tx, published).await?;
    }
    Ok(())
}

/// Parks the messages that are refused. Of a timer the latest message alone counts, so earlier ones go.
async fn park(tx: &mut Tx, published: &Published) -> Result<()> {
    let now_ms = tx.now_ms();
    let refused = list_json(&published.refused);
    if matches!(published.topic, Topic::Timers(_)) {
        query(
            "delete from outbox where unsent = 2 and topic = ?1 and subject in
                 (select subject from outbox where seq in (select value ->> 0 from json_each(?2)))",
        )
        .bind(published.topic.stored())
        .bind(&refused)
        .execute(tx.conn())
        .await?;
    }
    query(
        "update outbox set unsent = ?, sent_ms = ?, refusal = refused.reason
         from (select value ->> 0 as seq, value ->> 1 as reason from json_each(?)) as refused
         where outbox.seq = refused.seq",
    )
    .bind(PARKED)
    .bind(now_ms)
    .bind(refused)
    .execute(tx.conn())
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_of_a_subject_never_changes() {
        assert_eq!(shard_of("ord_01h455vb4pex5vsknk084sn02q"), 14);
        let shards: std::collections::BTreeSet<u16> =
            (0..1_000).map(|n| shard_of(&format!("ord_{n}"))).collect();
        assert_eq!(shards.len(), usize::from(OUTBOX_SHARDS));
    }
}
