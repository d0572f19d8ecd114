//! Relays the outbox: publishes what commits have left there, woken by the commit.
//!
//! A row is published at least once and always under the same message id. Of the events of one subject only one
//! is under way at a time, so they keep their order. A row that the broker refuses for good is parked and holds
//! nothing up.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::SqliteRow;
use tokio::sync::{Notify, watch};

use crate::error::Result;
use crate::limits::OUTBOX_SHARDS;
use crate::messaging::{Messaging, MessagingError, Outgoing};
use crate::metrics::{count_timers, seconds};
use crate::platform::Platform;
use crate::store::outbox::{PARKED, SENT, Topic, WAITING};
use crate::store::{Tx, column};

/// First wait after a failure, in ms; it doubles with each further one.
const BACKOFF_MS: u64 = 100;
/// How often the wait doubles, at most: the longest is some 6 s.
const BACKOFF_DOUBLINGS_MAX: u32 = 6;

/// A row on its way to the broker.
struct Row {
    seq: i64,
    topic: Topic,
    subject: String,
    created_ms: i64,
    outgoing: Outgoing,
}

/// What became of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pumped {
    /// Rows read.
    pub(crate) rows: usize,
    /// Rows that could not be published now.
    pub(crate) failed: usize,
}

/// Publishes until told to stop, then until the outbox is empty or the broker is away.
pub(crate) async fn run(
    platform: Platform,
    messaging: Arc<dyn Messaging>,
    written: Arc<Notify>,
    mut stop: watch::Receiver<bool>,
) {
    let mut failures = 0;
    loop {
        let pumped = pump(&platform, messaging.as_ref()).await;
        let failed = match &pumped {
            Ok(pumped) if pumped.failed == 0 && pumped.rows > 0 => {
                failures = 0;
                continue;
            }
            Ok(pumped) => pumped.failed > 0,
            Err(error) => {
                tracing::warn!(%error, "relay the outbox");
                true
            }
        };
        if *stop.borrow() {
            return;
        }
        if failed {
            let doubled_ms = BACKOFF_MS << std::cmp::min(failures, BACKOFF_DOUBLINGS_MAX);
            failures += 1;
            let backoff = Duration::from_millis(doubled_ms);
            tokio::select! {
                () = platform.clock().sleep(backoff) => {}
                _ = stop.changed() => {}
            }
        } else {
            failures = 0;
            tokio::select! {
                () = written.notified() => {}
                _ = stop.changed() => {}
            }
        }
    }
}

/// Publishes one batch.
pub(crate) async fn pump(platform: &Platform, messaging: &dyn Messaging) -> Result<Pumped> {
    if !is_waiting(platform).await? {
        metrics::gauge!("duetime_outbox_age_seconds").set(0.0);
        return Ok(Pumped::default());
    }
    let rows = next_rows(platform, messaging).await?;
    if rows.is_empty() {
        // Another process has the shards; if it is gone, its leases run out.
        let (rows, failed) = (0, 1);
        return Ok(Pumped { rows, failed });
    }
    let oldest_ms = rows.first().map_or(0, |row| row.created_ms);
    metrics::gauge!("duetime_outbox_age_seconds").set(seconds(platform.now_ms() - oldest_ms));
    let batch = rows.iter().map(|row| row.outgoing.clone()).collect();
    let results = messaging.publish(batch).await;
    let mut outcome = Outcome::default();
    for (row, result) in rows.iter().zip(results) {
        outcome.add(row, result);
    }
    let pumped = Pumped {
        rows: rows.len(),
        failed: outcome.failed,
    };
    outcome.count();
    platform
        .writer()
        .run(outcome, |tx, outcome| Box::pin(note(tx, outcome)))
        .await?;
    Ok(pumped)
}

/// What the broker said of each row.
#[derive(Debug, Default)]
struct Outcome {
    timers: Vec<i64>,
    events: Vec<i64>,
    refused: Vec<i64>,
    failed: usize,
    armed: Vec<Topic>,
}

impl Outcome {
    fn add(&mut self, row: &Row, result: Result<(), MessagingError>) {
        match (result, row.topic) {
            (Ok(()), Topic::Events) => self.events.push(row.seq),
            (Ok(()), topic @ Topic::Timers(_)) => {
                self.timers.push(row.seq);
                self.armed.push(topic);
            }
            (Err(MessagingError::Rejected(reason)), _) => {
                tracing::error!(subject = %row.subject, %reason, "park a message that the broker refuses");
                self.refused.push(row.seq);
            }
            (Err(error), _) => {
                tracing::debug!(subject = %row.subject, %error, "publish a message");
                self.failed += 1;
            }
        }
    }

    fn count(&self) {
        for topic in Topic::ALL {
            if let Topic::Timers(kind) = topic {
                let armed = self.armed.iter().filter(|armed| **armed == topic).count();
                count_timers("armed", kind, armed);
            }
        }
        if !self.refused.is_empty() {
            metrics::counter!("duetime_outbox_parked_total")
                .increment(u64::try_from(self.refused.len()).unwrap_or(u64::MAX));
        }
    }
}

/// Whether anything waits. Asked of the readers, so that an idle relay writes nothing.
async fn is_waiting(platform: &Platform) -> Result<bool> {
    let waiting = sqlx::query("select 1 from outbox where unsent > 0 and unsent = ? limit 1")
        .bind(WAITING)
        .fetch_optional(platform.readers())
        .await?;
    Ok(waiting.is_some())
}

/// The next rows of the shards that this process has leased.
async fn next_rows(platform: &Platform, messaging: &dyn Messaging) -> Result<Vec<Row>> {
    let config = platform.config();
    let lease = Lease {
        owner: config.relay_owner.clone(),
        lease_ms: config.relay_lease_ms,
    };
    let shards = platform
        .writer()
        .run(lease, |tx, lease| Box::pin(take_shards(tx, lease)))
        .await?;
    let shards = serde_json::to_string(&shards).expect("numbers are always JSON");
    let rows = sqlx::query(
        "select seq, topic, message_id, subject, tag, deliver_at_ms, body, created_ms from outbox
         where unsent > 0 and unsent = ? and shard in (select value from json_each(?))
         order by seq limit ?",
    )
    .bind(WAITING)
    .bind(shards)
    .bind(i64::try_from(config.relay_batch).unwrap_or(i64::MAX))
    .fetch_all(platform.readers())
    .await?;
    let longest_ms = i64::try_from(messaging.longest_delay().as_millis()).unwrap_or(i64::MAX);
    let latest_ms = platform.now_ms().saturating_add(longest_ms);
    let mut batch = Vec::with_capacity(rows.len());
    let mut subjects = HashSet::new();
    for row in &rows {
        let row = self::row(row, &config.prefix, latest_ms)?;
        if row.topic != Topic::Events || subjects.insert(row.subject.clone()) {
            batch.push(row);
        }
    }
    Ok(batch)
}

fn row(row: &SqliteRow, prefix: &str, latest_ms: i64) -> Result<Row> {
    let topic = Topic::from_stored(column(row, "topic")?)?;
    let subject: String = column(row, "subject")?;
    let deliver_at_ms: Option<i64> = column(row, "deliver_at_ms")?;
    // A delay beyond what the broker keeps is cut: the message comes early and its timer is armed again.
    let deliver_at_ms = deliver_at_ms.map(|at_ms| std::cmp::min(at_ms, latest_ms));
    let body: String = column(row, "body")?;
    Ok(Row {
        seq: column(row, "seq")?,
        topic,
        created_ms: column(row, "created_ms")?,
        outgoing: Outgoing {
            topic: topic.name(prefix),
            message_id: column(row, "message_id")?,
            key: Some(subject.clone()),
            tag: Some(column(row, "tag")?),
            message_group: (topic == Topic::Events).then(|| subject.clone()),
            deliver_at_ms: deliver_at_ms.and_then(|at_ms| u64::try_from(at_ms).ok()),
            body: body.into_bytes(),
        },
        subject,
    })
}

struct Lease {
    owner: String,
    lease_ms: i64,
}

/// Leases the shards that are free or ours already; answers those that are ours then.
async fn take_shards(tx: &mut Tx, lease: &Lease) -> Result<Vec<i64>> {
    let now_ms = tx.now_ms();
    // Renewed at half time, so that most batches write nothing here.
    let held: Vec<i64> =
        sqlx::query_scalar("select shard from outbox_lease where owner = ? and until_ms > ?")
            .bind(&lease.owner)
            .bind(now_ms + lease.lease_ms / 2)
            .fetch_all(tx.conn())
            .await?;
    if held.len() == usize::from(OUTBOX_SHARDS) {
        return Ok(held);
    }
    let shards: Vec<u16> = (0..OUTBOX_SHARDS).collect();
    let taken = sqlx::query_scalar(
        "insert into outbox_lease (shard, owner, until_ms)
         select value, ?1, ?2 from json_each(?3) where true
         on conflict (shard) do update set owner = excluded.owner, until_ms = excluded.until_ms
             where owner = excluded.owner or until_ms <= ?4
         returning shard",
    )
    .bind(&lease.owner)
    .bind(now_ms + lease.lease_ms)
    .bind(serde_json::to_string(&shards).expect("numbers are always JSON"))
    .bind(now_ms)
    .fetch_all(tx.conn())
    .await?;
    Ok(taken)
}

/// Notes what was published. Timers are told by their own rows; events are kept for a while.
async fn note(tx: &mut Tx, outcome: &Outcome) -> Result<()> {
    let now_ms = tx.now_ms();
    let json = |seqs: &[i64]| serde_json::to_string(seqs).expect("numbers are always JSON");
    if !outcome.timers.is_empty() {
        sqlx::query("delete from outbox where seq in (select value from json_each(?))")
            .bind(json(&outcome.timers))
            .execute(tx.conn())
            .await?;
    }
    for (seqs, unsent) in [(&outcome.events, SENT), (&outcome.refused, PARKED)] {
        if !seqs.is_empty() {
            sqlx::query(
                "update outbox set unsent = ?, sent_ms = ?
                 where seq in (select value from json_each(?))",
            )
            .bind(unsent)
            .bind(now_ms)
            .bind(json(seqs))
            .execute(tx.conn())
            .await?;
        }
    }
    Ok(())
}
