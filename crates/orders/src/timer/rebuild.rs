//! Rebuilds all timers from SQL alone.

use uuid::Uuid;

use crate::error::Result;
use crate::model::timer::{TimerKind, TimerRow};
use crate::platform::Platform;
use crate::store::Tx;
use crate::store::open::{self, Open, OpenPlace};
use crate::store::timers;
use crate::timer::{REARM_MIN_MS, rearm_all};

/// Timers that one transaction arms again.
const BATCH: i64 = 500;
/// Things that one look for missing timers covers.
const BATCH_LEN: usize = 500;

/// The timer after which a rebuild continues; `None` before the first.
type Place = Option<(Uuid, TimerKind)>;

impl Platform {
    /// Writes missing timers from the orders, attempts, refunds and coupons, and publishes every timer anew.
    ///
    /// For a broker that was lost or replaced. Earlier messages are ignored: each timer gets a new hop.
    pub async fn rebuild_timers(&self) -> Result<u64> {
        self.insert_all_missing().await?;
        let mut place = None;
        let mut rebuilt = 0;
        loop {
            let (count, last) = self
                .writer()
                .run(place, |tx, place| Box::pin(republish(tx, *place)))
                .await?;
            rebuilt += count;
            if last.is_none() {
                return Ok(rebuilt);
            }
            place = last;
        }
    }

    async fn insert_all_missing(&self) -> Result<()> {
        for open in &open::ALL {
            let mut place = Some(OpenPlace::default());
            while let Some(at) = place {
                let found = open::find(self.readers(), open, i64::MAX, at, BATCH_LEN).await?;
                place = found.next;
                self.writer()
                    .run((open, found.missing), |tx, (open, ids)| {
                        Box::pin(insert_some(tx, open, ids))
                    })
                    .await?;
            }
        }
        Ok(())
    }
}

async fn insert_some(tx: &mut Tx, open: &Open, ids: &[Uuid]) -> Result<()> {
    // Republishing moves what is past to the present.
    let fire_ms = tx.now_ms();
    open::insert_missing(tx, open, fire_ms, ids).await.map(drop)
}

/// Arms the next timers after the place again, whether parked or not; answers how many, and the last one's place.
async fn republish(tx: &mut Tx, place: Place) -> Result<(u64, Place)> {
    let timers = timers::page(tx, place, BATCH).await?;
    let last = timers.last().map(|timer| (timer.id, timer.kind));
    let soonest_ms = tx.now_ms() + REARM_MIN_MS;
    let fire_ms = |timer: &TimerRow| std::cmp::max(timer.next_fire_ms, soonest_ms);
    let counts = rearm_all(tx, &timers, fire_ms).await?;
    let count: usize = counts.iter().map(|(_, count)| count).sum();
    Ok((u64::try_from(count).unwrap_or(0), last))
}
