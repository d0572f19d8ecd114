//! Rebuilds all timers from SQL alone.

use uuid::Uuid;

use crate::error::Result;
use crate::model::timer::{TimerKind, TimerRow};
use crate::platform::Platform;
use crate::store::Tx;
use crate::store::timers::{self, Bounds};
use crate::timer::{REARM_MIN_MS, rearm_all};

/// Timers that one transaction arms again.
const BATCH: i64 = 500;

/// The timer after which a rebuild continues; `None` before the first.
type Place = Option<(Uuid, TimerKind)>;

impl Platform {
    /// Writes missing timers from the orders, attempts, refunds and coupons, and publishes every timer anew.
    ///
    /// For a broker that was lost or replaced. Earlier messages are ignored: each timer gets a new hop.
    pub async fn rebuild_timers(&self) -> Result<u64> {
        self.writer()
            .run((), |tx, ()| Box::pin(insert_all_missing(tx)))
            .await?;
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
}

async fn insert_all_missing(tx: &mut Tx) -> Result<()> {
    let bounds = Bounds {
        due_before_ms: i64::MAX,
        // Republishing moves what is past to the present.
        fire_ms: tx.now_ms(),
        limit: -1,
    };
    timers::insert_missing(tx, bounds).await.map(drop)
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
