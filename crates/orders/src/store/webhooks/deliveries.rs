//! Stores the deliveries of events to webhook endpoints.
//!
//! Of the deliveries to an endpoint with one subject at most one is due, which a unique index holds; the others are
//! queued until it has ended. So events of an order arrive in their order.

use crate::error::{Error, Result};
use crate::ids::{MerchantId, WebhookDeliveryId, WebhookId};
use crate::limits::DELIVERY_TRIES_KEPT;
use crate::model::stored::Stored as _;
use crate::model::webhook::{Delivery, DeliveryState, DeliveryTry};
use crate::store::rows::{column, limit_of, list_json, merchant_column, stored_column};
use crate::store::sql::{Connection, Executor, Readers, Row, query, query_scalar};
use crate::store::tx::Tx;

/// The columns that [`from_row`] reads.
macro_rules! columns {
    () => {
        "id, webhook_id, merchant_id, event_id, kind, subject, seq, state, version, tries, next_ms, log, created_ms, \
         ended_ms"
    };
}

/// Some deliveries of an endpoint in a state, the latest first.
const PAGE: &str = concat!(
    "select ",
    columns!(),
    " from webhook_delivery where webhook_id = ? and state = ? and id < ? order by id desc limit ?"
);

/// The next delivery of a subject that is queued. The state is written out as in the index.
const NEXT_QUEUED: &str = concat!(
    "select ",
    columns!(),
    " from webhook_delivery where webhook_id = ? and subject = ? and state = 2 and state in (1, 2) order by seq, id limit 1"
);

/// The events of a merchant after a place, as the fan-out needs them.
const UNSEEN: &str = "select seq, message_id, tag, subject from outbox
     where topic = 10 and merchant_id = ? and seq > ? order by seq limit ?";

/// An event that may have to be delivered.
#[derive(Clone, Debug)]
pub(crate) struct Unseen {
    pub(crate) place: i64,
    pub(crate) event_id: String,
    pub(crate) kind: String,
    pub(crate) subject: String,
}

/// The merchant's events after a place.
pub(crate) async fn unseen(
    readers: &Readers,
    merchant_id: &MerchantId,
    after: i64,
    limit: usize,
) -> Result<Vec<Unseen>> {
    let rows = query(UNSEEN)
        .bind(merchant_id.as_str())
        .bind(after)
        .bind(limit_of(limit))
        .fetch_all(readers)
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Unseen {
                place: column(row, "seq")?,
                event_id: column(row, "message_id")?,
                kind: column(row, "tag")?,
                subject: column(row, "subject")?,
            })
        })
        .collect()
}

/// Writes a new delivery: due, or queued if another one of its subject has not ended.
pub(crate) async fn insert(
    tx: &mut Tx,
    webhook: (WebhookId, &MerchantId),
    event: &Unseen,
) -> Result<Delivery> {
    let now_ms = tx.now_ms();
    let row = query(concat!(
        "insert into webhook_delivery
             (id, webhook_id, merchant_id, event_id, kind, subject, seq, state, version, tries, next_ms, log, created_ms)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7,
                 case when exists (select 1 from webhook_delivery
                                   where webhook_id = ?2 and subject = ?6 and state in (1, 2)) then 2 else 1 end,
                 1, 0, ?8, '[]', ?8)
         returning ",
        columns!()
    ))
    .bind(WebhookDeliveryId::new(now_ms))
    .bind(webhook.0)
    .bind(webhook.1.as_str())
    .bind(&event.event_id)
    .bind(&event.kind)
    .bind(&event.subject)
    .bind(event.place)
    .bind(now_ms)
    .fetch_one(tx.conn())
    .await?;
    from_row(&row)
}

/// The delivery, of any merchant.
pub(crate) async fn get(
    executor: impl Executor,
    id: WebhookDeliveryId,
) -> Result<Option<Delivery>> {
    let row = query(concat!(
        "select ",
        columns!(),
        " from webhook_delivery where id = ?"
    ))
    .bind(id)
    .fetch_optional(executor)
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// The event of a delivery, in JSON; `None` if it is no longer kept.
pub(crate) async fn event(connection: &mut Connection, place: i64) -> Result<Option<String>> {
    let body = query_scalar("select body from outbox where seq = ? and topic = 10")
        .bind(place)
        .fetch_optional(connection)
        .await?;
    Ok(body)
}

/// Up to `limit` deliveries of the endpoint, those before `before`, the latest first; of one state if it is given.
pub(crate) async fn page(connection: &mut Connection, wanted: &Wanted) -> Result<Vec<Delivery>> {
    let mut found = Vec::new();
    // The index leads with the state, so all states are so many short scans of it.
    for state in DeliveryState::ALL {
        if wanted.state.is_some_and(|wanted| wanted != state) {
            continue;
        }
        let rows = query(PAGE)
            .bind(wanted.webhook_id)
            .bind(state.stored())
            .bind(
                wanted
                    .before
                    .map_or_else(uuid::Uuid::max, WebhookDeliveryId::uuid),
            )
            .bind(limit_of(wanted.limit))
            .fetch_all(&mut *connection)
            .await?;
        for row in &rows {
            found.push(from_row(row)?);
        }
    }
    found.sort_by_key(|delivery| std::cmp::Reverse(delivery.id));
    found.truncate(wanted.limit);
    Ok(found)
}

/// Which deliveries to list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) webhook_id: WebhookId,
    pub(crate) state: Option<DeliveryState>,
    pub(crate) before: Option<WebhookDeliveryId>,
    pub(crate) limit: usize,
}

/// Writes what a try or a repetition changes of the delivery.
pub(crate) async fn update(tx: &mut Tx, delivery: &Delivery) -> Result<()> {
    let kept = delivery.log.len().saturating_sub(DELIVERY_TRIES_KEPT);
    let log: Vec<&DeliveryTry> = delivery.log.iter().skip(kept).collect();
    query(
        "update webhook_delivery
         set state = ?, version = ?, tries = ?, next_ms = ?, log = ?, ended_ms = ? where id = ?",
    )
    .bind(delivery.state.stored())
    .bind(delivery.version)
    .bind(delivery.tries)
    .bind(delivery.next_ms)
    .bind(list_json(&log))
    .bind(delivery.ended_ms)
    .bind(delivery.id)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// The next delivery of the subject that is queued.
pub(crate) async fn next_queued(
    tx: &mut Tx,
    webhook_id: WebhookId,
    subject: &str,
) -> Result<Option<Delivery>> {
    let row = query(NEXT_QUEUED)
        .bind(webhook_id)
        .bind(subject)
        .fetch_optional(tx.conn())
        .await?;
    row.as_ref().map(from_row).transpose()
}

/// Whether a delivery of the subject is due.
pub(crate) async fn is_one_due(tx: &mut Tx, webhook_id: WebhookId, subject: &str) -> Result<bool> {
    let due =
        query("select 1 from webhook_delivery where webhook_id = ? and subject = ? and state = 1")
            .bind(webhook_id)
            .bind(subject)
            .fetch_optional(tx.conn())
            .await?;
    Ok(due.is_some())
}

/// Gives up the deliveries of the subject that are queued.
pub(crate) async fn give_up_queued(
    tx: &mut Tx,
    webhook_id: WebhookId,
    subject: &str,
) -> Result<()> {
    let now_ms = tx.now_ms();
    query(
        "update webhook_delivery set state = 4, ended_ms = ?
         where webhook_id = ? and subject = ? and state = 2 and state in (1, 2)",
    )
    .bind(now_ms)
    .bind(webhook_id)
    .bind(subject)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Deletes deliveries that ended before an instant, in ms since the Unix epoch; answers how many.
pub(crate) async fn delete_ended(tx: &mut Tx, before_ms: i64, limit: i64) -> Result<usize> {
    let deleted = query(
        "delete from webhook_delivery where id in
             (select id from webhook_delivery where state in (3, 4) and ended_ms < ? limit ?)",
    )
    .bind(before_ms)
    .bind(limit)
    .execute(tx.conn())
    .await?;
    Ok(usize::try_from(deleted.rows_affected()).unwrap_or(usize::MAX))
}

/// Reads a row of `columns!()`.
fn from_row(row: &Row) -> Result<Delivery> {
    let log: String = column(row, "log")?;
    let log = serde_json::from_str(&log).map_err(|error| Error::Unreadable {
        what: "log of a delivery",
        detail: error.to_string(),
    })?;
    Ok(Delivery {
        id: column(row, "id")?,
        webhook_id: column(row, "webhook_id")?,
        merchant_id: merchant_column(row)?,
        event_id: column(row, "event_id")?,
        kind: column(row, "kind")?,
        subject: column(row, "subject")?,
        place: column(row, "seq")?,
        state: stored_column(row, "state")?,
        version: column(row, "version")?,
        tries: column(row, "tries")?,
        next_ms: column(row, "next_ms")?,
        log,
        created_ms: column(row, "created_ms")?,
        ended_ms: column(row, "ended_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::shop::Shop;

    #[tokio::test]
    async fn lists_and_queues_are_read_by_their_indexes() {
        let shop = Shop::open().await;
        for (statement, index) in [
            (PAGE, "webhook_delivery_by_state"),
            (NEXT_QUEUED, "webhook_delivery_open"),
            (UNSEEN, "outbox_events"),
        ] {
            let plan = shop.plan_of(statement).await;
            assert!(plan.iter().any(|step| step.contains(index)), "{plan:?}");
            assert!(
                plan.iter().all(|step| !step.contains("TEMP B-TREE")),
                "{plan:?}"
            );
        }
    }
}
