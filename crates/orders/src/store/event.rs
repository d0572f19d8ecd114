//! Reads the events of a merchant from the outbox, where they are kept after they were published.

use crate::error::Result;
use crate::ids::MerchantId;
use crate::limits::EVENT_PAGE_BYTES_MAX;
use crate::model::event::{EventPage, StoredEvent};
use crate::store::rows::{column, limit_of, list_json};
use crate::store::sql::{Connection, Readers, query, query_scalar};
use crate::store::tx::Tx;

/// The events of a merchant after a place. The topic is written out as in the index.
const PAGE: &str = "select seq, body from outbox
     where topic = 10 and merchant_id = ? and seq > ? order by seq limit ?";

/// The place of a merchant's latest event.
const LATEST: &str = "select max(seq) from outbox where topic = 10 and merchant_id = ?";

/// Which events to read.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) merchant_id: MerchantId,
    /// Only events after this place.
    pub(crate) after: i64,
    pub(crate) limit: usize,
}

/// The next events; `None` if events after the place are no longer kept, or the place is not one of this database.
pub(crate) async fn page(readers: &Readers, wanted: Wanted) -> Result<Option<EventPage>> {
    readers
        .snapshot(wanted, |connection, wanted| {
            Box::pin(read_page(connection, wanted))
        })
        .await
}

async fn read_page(connection: &mut Connection, wanted: &Wanted) -> Result<Option<EventPage>> {
    if wanted.after > 0 && !is_kept(connection, wanted).await? {
        return Ok(None);
    }
    let rows = query(PAGE)
        .bind(wanted.merchant_id.as_str())
        .bind(wanted.after)
        .bind(limit_of(wanted.limit))
        .fetch_all(connection)
        .await?;
    let mut page = EventPage {
        events: Vec::with_capacity(rows.len()),
        next: wanted.after,
    };
    let mut bytes = 0;
    for row in &rows {
        let body: String = column(row, "body")?;
        bytes += body.len();
        if bytes > EVENT_PAGE_BYTES_MAX && !page.events.is_empty() {
            break;
        }
        page.next = column(row, "seq")?;
        let place = page.next;
        page.events.push(StoredEvent { place, body });
    }
    Ok(Some(page))
}

/// Whether all events of the merchant after the place are still there.
async fn is_kept(connection: &mut Connection, wanted: &Wanted) -> Result<bool> {
    let lost: Option<i64> = query_scalar("select seq from event_lost where merchant_id = ?")
        .bind(wanted.merchant_id.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    let newest: Option<i64> = query_scalar("select seq from sqlite_sequence where name = 'outbox'")
        .fetch_optional(connection)
        .await?;
    Ok(wanted.after >= lost.unwrap_or(0) && wanted.after <= newest.unwrap_or(0))
}

/// The place of the merchant's latest event that is kept; 0 if there is none.
pub(crate) async fn latest(readers: &Readers, merchant_id: &MerchantId) -> Result<i64> {
    readers
        .snapshot(merchant_id.clone(), |connection, merchant_id| {
            Box::pin(read_latest(connection, merchant_id))
        })
        .await
}

async fn read_latest(connection: &mut Connection, merchant_id: &MerchantId) -> Result<i64> {
    let latest: Option<i64> = query_scalar(LATEST)
        .bind(merchant_id.as_str())
        .fetch_one(&mut *connection)
        .await?;
    let lost: Option<i64> = query_scalar("select seq from event_lost where merchant_id = ?")
        .bind(merchant_id.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(latest.or(lost).unwrap_or(0))
}

/// Records up to which place events of each merchant are about to be deleted.
pub(super) async fn note_lost(tx: &mut Tx, seqs: &[i64]) -> Result<()> {
    query(
        "insert into event_lost (merchant_id, seq)
         select merchant_id, max(seq) from outbox
         where seq in (select value from json_each(?)) and unsent = 0 and topic = 10 group by merchant_id
         on conflict (merchant_id) do update set seq = max(event_lost.seq, excluded.seq)",
    )
    .bind(list_json(seqs))
    .execute(tx.conn())
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::shop::Shop;

    #[tokio::test]
    async fn events_are_read_in_the_order_of_their_index() {
        let shop = Shop::open().await;
        for statement in [PAGE, LATEST] {
            let plan = shop.plan_of(statement).await;
            assert!(
                plan.iter().any(|step| step.contains("outbox_events")),
                "{plan:?}"
            );
            assert!(
                plan.iter().all(|step| !step.contains("TEMP B-TREE")),
                "{plan:?}"
            );
        }
    }
}
