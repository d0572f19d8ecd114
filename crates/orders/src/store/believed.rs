//! Sets the clock at a start, and pauses all closing when the clock is too far ahead to be believed.
//!
//! A wall clock that is years ahead would close every order that waits. So a clock far ahead of the last recorded instant
//! begins a pause of everything, which a person ends once the clock has been checked. Until then no instant is recorded
//! as believed, and a start with the right clock continues from the last one before.

use broker::clock::Clock;

use crate::error::Result;
use crate::store::sql::Connection;
use crate::store::tx::{Tx, clock_ms};
use crate::store::{audit, marks, pauses};

/// A clock that is earlier by more than this was set, in ms.
const BEHIND_MS_MAX: i64 = 1_000;
const DAY_MS: i64 = 86_400_000;

/// What the writer watches the clock with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Believed {
    /// When the last commit was begun.
    last_ms: i64,
    jump_max_ms: i64,
}

/// Sets the clock to the last recorded instant, if it shows an earlier one.
///
/// The broker in this process does the same, but its folder may be lost, or end a moment earlier: then a wall clock
/// that was set back would put deadlines ahead again that have been reached.
pub(super) async fn resume(
    connection: &mut Connection,
    clock: &dyn Clock,
    jump_max_ms: i64,
) -> Result<Believed> {
    let doubted_since_ms = pauses::clock_doubted_since_ms(&mut *connection).await?;
    let seen_ms = marks::get(connection, marks::LAST_SEEN_MS).await?;
    let recorded_ms = match doubted_since_ms {
        // What was recorded since then has instants of a clock that may be wrong.
        Some(since_ms) => Some(since_ms),
        None => std::cmp::max(audit::last_ms(connection).await?, seen_ms),
    };
    if let Some(recorded_ms) = recorded_ms {
        let behind_ms = recorded_ms - clock_ms(clock);
        if behind_ms > BEHIND_MS_MAX {
            tracing::warn!(
                behind_ms,
                "the clock is earlier than the last recorded instant and continues from that instant"
            );
        }
        clock.resume_at(u64::try_from(recorded_ms).unwrap_or(0));
    }
    let now_ms = clock_ms(clock);
    let mut believed = Believed {
        last_ms: recorded_ms.unwrap_or(now_ms),
        jump_max_ms,
    };
    if let Some(ahead_ms) = believed.jump_ms(now_ms) {
        doubt(connection, believed.last_ms, ahead_ms).await?;
    } else if doubted_since_ms.is_some() {
        tracing::error!(
            "closing is still paused, since the clock was too far ahead to be believed; check the clock, then resume everything"
        );
    } else {
        marks::set(connection, marks::LAST_SEEN_MS, now_ms).await?;
    }
    believed.last_ms = now_ms;
    Ok(believed)
}

impl Believed {
    /// How far the clock has jumped, in ms, if that is too far to be believed.
    fn jump_ms(self, now_ms: i64) -> Option<i64> {
        let ahead_ms = now_ms - self.last_ms;
        (self.jump_max_ms > 0 && ahead_ms > self.jump_max_ms).then_some(ahead_ms)
    }

    /// Pauses closing if the clock has jumped since the last commit; answers the time of this one.
    pub(super) async fn look(self, tx: &mut Tx) -> Result<i64> {
        let now_ms = tx.clock_ms();
        if let Some(ahead_ms) = self.jump_ms(now_ms) {
            doubt(tx.conn(), self.last_ms, ahead_ms).await?;
        }
        Ok(now_ms)
    }

    /// Remembers when the last commit was begun.
    pub(super) fn committed(&mut self, begun_ms: i64) {
        self.last_ms = begun_ms;
    }
}

/// Records that the clock can be believed now, unless closing is paused because it may be wrong.
pub(crate) async fn mark(tx: &mut Tx) -> Result<()> {
    if pauses::clock_doubted_since_ms(tx.conn()).await?.is_none() {
        let now_ms = tx.now_ms();
        marks::set(tx.conn(), marks::LAST_SEEN_MS, now_ms).await?;
    }
    Ok(())
}

/// Pauses closing. The audit trail gets no row: its instant would be the wrong one.
async fn doubt(connection: &mut Connection, last_ms: i64, ahead_ms: i64) -> Result<()> {
    let days = ahead_ms / DAY_MS;
    let reason = format!("the clock is {days} days ahead of the last recorded instant");
    tracing::error!(
        days,
        "the clock is too far ahead of the last recorded instant to be believed: closing is paused; check the clock, then resume everything"
    );
    pauses::start_for_clock(connection, &reason, last_ms).await
}
