//! Deletes old rows: published events and idempotency keys that have been kept long enough.

use crate::error::Result;
use crate::limits::DELIVERIES_KEPT_MS;
use crate::platform::Platform;
use crate::store::outbox::prune::{self, Kept};
use crate::store::webhooks::deliveries;
use crate::store::{Tx, idempotency, pauses, webhooks};

/// Rows that one transaction deletes.
const BATCH: i64 = 500;
/// The same, for lists.
const BATCH_LEN: usize = 500;
/// Rows of the outbox that one pass looks at.
const ROWS_MAX: usize = 20_000;

/// Deletes old rows, a bounded piece at a time.
#[derive(Debug, Default)]
pub(crate) struct Pruner {
    /// The row of the outbox after which the next pass goes on.
    after_seq: i64,
}

impl Pruner {
    /// Deletes what has been kept long enough; answers how many events. Nothing while the clock may be wrong.
    pub(crate) async fn prune(&mut self, platform: &Platform) -> Result<usize> {
        if pauses::clock_doubted_since_ms(platform.readers())
            .await?
            .is_some()
        {
            return Ok(0);
        }
        let events = self.prune_events(platform).await?;
        let keep_ms = platform.config().keep_idempotency_ms;
        platform
            .writer()
            .run_until_none(keep_ms, |tx, keep_ms| Box::pin(prune_keys(tx, *keep_ms)))
            .await?;
        platform
            .writer()
            .run_until_none((), |tx, ()| Box::pin(prune_deliveries(tx)))
            .await?;
        Ok(events)
    }

    /// Events are published in about the order in which they were written: the walk ends at the first that is too young,
    /// and passes by those that have not been published.
    async fn prune_events(&mut self, platform: &Platform) -> Result<usize> {
        let before_ms = platform.now_ms() - platform.config().keep_events_ms;
        let (mut looked_at, mut deleted) = (0, 0);
        while looked_at < ROWS_MAX {
            let page = prune::page(platform.readers(), self.after_seq, BATCH_LEN).await?;
            looked_at += page.len();
            let is_young = |row: &Kept| row.sent_ms.is_some_and(|sent_ms| sent_ms >= before_ms);
            let old = page.iter().take_while(|row| !is_young(row));
            let seqs: Vec<i64> = old
                .filter(|row| row.sent_ms.is_some())
                .map(|row| row.seq)
                .collect();
            deleted += seqs.len();
            if !seqs.is_empty() {
                let deletion = platform
                    .writer()
                    .run(seqs, |tx, seqs| Box::pin(prune_rows(tx, seqs)));
                deletion.await?;
            }
            if page.len() < BATCH_LEN || page.iter().any(is_young) {
                self.after_seq = 0;
                break;
            }
            self.after_seq = page.last().map_or(0, |row| row.seq);
        }
        Ok(deleted)
    }
}

/// Whether the clock may be wrong, as the transaction sees it: the clock is looked at when one begins.
async fn is_doubted(tx: &mut Tx) -> Result<bool> {
    Ok(pauses::clock_doubted_since_ms(tx.conn()).await?.is_some())
}

async fn prune_rows(tx: &mut Tx, seqs: &[i64]) -> Result<()> {
    if is_doubted(tx).await? {
        return Ok(());
    }
    prune::delete(tx, seqs).await
}

/// Deletes old deliveries, then endpoints that were deleted and have none left.
async fn prune_deliveries(tx: &mut Tx) -> Result<usize> {
    if is_doubted(tx).await? {
        return Ok(0);
    }
    let before_ms = tx.now_ms() - DELIVERIES_KEPT_MS;
    let deleted = deliveries::delete_ended(tx, before_ms, BATCH).await?;
    webhooks::delete_empty(tx).await?;
    Ok(deleted)
}

async fn prune_keys(tx: &mut Tx, keep_ms: i64) -> Result<usize> {
    if is_doubted(tx).await? {
        return Ok(0);
    }
    let before_ms = tx.now_ms() - keep_ms;
    let keys = idempotency::delete_used(tx, before_ms, BATCH).await?;
    Ok(usize::try_from(keys).unwrap_or(usize::MAX))
}
