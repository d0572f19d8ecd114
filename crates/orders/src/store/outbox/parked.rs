//! Reads what has not been published, and lets parked messages be published again.

use crate::error::{Error, Result};
use crate::model::outbox::{OutboxMessage, OutboxState, Topic};
use crate::store::outbox::{PARKED, WAITING, topic_column};
use crate::store::rows::{column, limit_of, list_json, merchant_column};
use crate::store::sql::{Readers, Row, query};
use crate::store::tx::Tx;

/// The columns that [`from_row`] reads.
macro_rules! columns {
    () => {
        "seq, merchant_id, topic, message_id, subject, tag, unsent, deliver_at_ms, created_ms, sent_ms, refusal"
    };
}

/// A page of the messages of one state, by topic.
const PAGE: &str = concat!(
    "select ",
    columns!(),
    " from outbox where unsent > 0 and unsent = ?1 and (topic, seq) > (?2, ?3) and topic <= ?4
      order by topic, seq limit ?5"
);

/// A place in the outbox: by topic, then by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxPlace {
    pub(crate) topic: i64,
    pub(crate) seq: i64,
}

impl OutboxPlace {
    /// The place of a message.
    pub fn of(message: &OutboxMessage) -> Self {
        let (topic, seq) = (message.topic.stored(), message.seq);
        Self { topic, seq }
    }
}

/// Which messages to list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutboxFilter {
    pub(crate) state: OutboxState,
    /// Only those of this topic.
    pub(crate) topic: Option<Topic>,
    /// Only those after this place.
    pub(crate) after: Option<OutboxPlace>,
}

/// The messages that the filter names, by topic, then by age.
pub(crate) async fn page(
    readers: &Readers,
    filter: OutboxFilter,
    limit: usize,
) -> Result<Vec<OutboxMessage>> {
    let topic = filter.topic.map(Topic::stored);
    let after = filter
        .after
        .map_or((i64::MIN, 0), |place| (place.topic, place.seq));
    // Nothing of the topic is before its first row.
    let after = std::cmp::max(after, (topic.unwrap_or(i64::MIN), 0));
    let rows = query(PAGE)
        .bind(stored(filter.state))
        .bind(after.0)
        .bind(after.1)
        .bind(topic.unwrap_or(i64::MAX))
        .bind(limit_of(limit))
        .fetch_all(readers)
        .await?;
    rows.iter().map(from_row).collect()
}

/// The message if it has not been published, as the open transaction sees it.
pub(crate) async fn get(tx: &mut Tx, seq: i64) -> Result<OutboxMessage> {
    let row = query(concat!(
        "select ",
        columns!(),
        " from outbox where seq = ? and unsent > 0"
    ))
    .bind(seq)
    .fetch_optional(tx.conn())
    .await?;
    from_row(&row.ok_or_else(|| Error::not_found("message that waits in the outbox", &seq))?)
}

/// The next parked messages of a topic after one.
pub(crate) async fn next(
    tx: &mut Tx,
    topic: Topic,
    after_seq: i64,
    limit: i64,
) -> Result<Vec<OutboxMessage>> {
    let rows = query(concat!(
        "select ",
        columns!(),
        " from outbox where unsent > 0 and unsent = ? and topic = ? and seq > ? order by seq limit ?"
    ))
    .bind(PARKED)
    .bind(topic.stored())
    .bind(after_seq)
    .bind(limit)
    .fetch_all(tx.conn())
    .await?;
    rows.iter().map(from_row).collect()
}

/// Lets parked messages be published again.
pub(crate) async fn unpark(tx: &mut Tx, seqs: &[i64]) -> Result<()> {
    query(
        "update outbox set unsent = ?, sent_ms = null, refusal = null
         where seq in (select value from json_each(?)) and unsent = ?",
    )
    .bind(WAITING)
    .bind(list_json(seqs))
    .bind(PARKED)
    .execute(tx.conn())
    .await?;
    Ok(())
}

fn stored(state: OutboxState) -> i64 {
    match state {
        OutboxState::Waiting => WAITING,
        OutboxState::Parked => PARKED,
    }
}

/// Reads a row of `columns!()`.
fn from_row(row: &Row) -> Result<OutboxMessage> {
    let unsent: i64 = column(row, "unsent")?;
    Ok(OutboxMessage {
        seq: column(row, "seq")?,
        merchant_id: merchant_column(row)?,
        topic: topic_column(row)?,
        message_id: column(row, "message_id")?,
        subject: column(row, "subject")?,
        tag: column(row, "tag")?,
        state: if unsent == PARKED {
            OutboxState::Parked
        } else {
            OutboxState::Waiting
        },
        deliver_at_ms: column(row, "deliver_at_ms")?,
        created_ms: column(row, "created_ms")?,
        parked_ms: column(row, "sent_ms")?,
        refusal: column(row, "refusal")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::shop::Shop;

    #[tokio::test]
    async fn a_page_is_found_by_the_index_of_what_is_unsent() {
        let shop = Shop::open().await;
        let plan = shop.plan_of(PAGE).await;
        assert!(
            plan.len() == 1 && plan[0].contains("outbox_unsent"),
            "{plan:?}"
        );
    }
}
