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
        for open in &open::ALL {
            self.insert_all_missing(open).await?;
        }
        self.republish_all(None).await
    }

    /// Publishes every timer of the kind anew: its topic was lost.
    pub(crate) async fn rebuild_kind(&self, kind: TimerKind) -> Result<u64> {
        self.republish_all(Some(kind)).await
    }

    async fn republish_all(&self, kind: Option<TimerKind>) -> Result<u64> {
        let mut place = None;
        let mut rebuilt = 0;
        loop {
            let (count, last) = self
                .writer()
                .run((kind, place), |tx, (kind, place)| {
                    Box::pin(republish(tx, *kind, *place))
                })
                .await?;
            rebuilt += count;
            if last.is_none() {
                return Ok(rebuilt);
            }
            place = last;
        }
    }

    async fn insert_all_missing(&self, open: &'static Open) -> Result<()> {
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
        Ok(())
    }
}

async fn insert_some(tx: &mut Tx, open: &Open, ids: &[Uuid]) -> Result<()> {
    // Republishing moves what is past to the present.
    let fire_ms = tx.now_ms();
    open::insert_missing(tx, open, fire_ms, ids).await.map(drop)
}

/// Arms the next timers after the place again, of one kind or of all, whether parked or not; answers how many, and the last one's place.
async fn republish(tx: &mut Tx, kind: Option<TimerKind>, place: Place) -> Result<(u64, Place)> {
    let timers = timers::page(tx, kind, place, BATCH).await?;
    let last = timers.last().map(|timer| (timer.id, timer.kind));
    let soonest_ms = tx.now_ms() + REARM_MIN_MS;
    let fire_ms = |timer: &TimerRow| std::cmp::max(timer.next_fire_ms, soonest_ms);
    let counts = rearm_all(tx, &timers, fire_ms).await?;
    let count: usize = counts.iter().map(|(_, count)| count).sum();
    Ok((u64::try_from(count).unwrap_or(0), last))
}
