//! Provides the platform's work one step at a time, for a simulator that decides what happens next and when.
//!
//! A platform opened with [`Running::open`](crate::Running::open) does nothing by itself but commit. These functions
//! do what its tasks do, once each, through the same code.

use crate::error::Result;
use crate::messaging::dispatch;
use crate::messaging::relay;
use crate::messaging::{Incoming, Messaging};
use crate::platform::Platform;
use crate::run::{self, Running};
use crate::store::outbox::Topic;

/// What one step of the relay came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relayed {
    /// Rows of the outbox that it read.
    pub rows: usize,
    /// Rows that could not be published now.
    pub failed: usize,
}

/// Makes every id and every drawn wait of this thread follow from the seed; API keys stay random.
pub fn seed(seed: u64) {
    crate::random::seed(seed);
}

/// Publishes one batch of the outbox.
pub async fn relay(platform: &Platform, messaging: &dyn Messaging) -> Result<Relayed> {
    let pumped = relay::pump(platform, messaging).await?;
    Ok(Relayed {
        rows: pumped.rows,
        failed: pumped.failed,
    })
}

/// Answers one batch of delivered messages of a topic, as its consumer does; one result per message, in order.
///
/// An answered message is to be acknowledged; one that failed is to be handed back.
pub async fn answer(platform: &Platform, topic: Topic, delivered: &[Incoming]) -> Vec<Result<()>> {
    dispatch::answer(platform, topic, delivered).await
}

/// Lets the parked timers go that no pause holds any more.
pub async fn release(platform: &Platform) -> Result<()> {
    run::resume(platform).await
}

/// Ends every task of the platform where it stands, as a crash would; what was not committed is gone.
pub async fn crash(running: Running) {
    running.crash().await;
}
