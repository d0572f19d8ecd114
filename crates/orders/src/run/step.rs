//! Runs the platform one step at a time, for a simulator that decides what happens next and when.
//!
//! A platform opened with [`Running::open`](crate::Running::open) does nothing by itself but commit. These functions
//! do what its tasks do, once each, through the same code.

use crate::error::Result;
use crate::messaging::dispatch;
use crate::messaging::relay;
use crate::messaging::{Incoming, Messaging};
use crate::model::outbox::Topic;
use crate::platform::Platform;
use crate::run::Running;
use crate::timer::pause;
pub use crate::timer::pause::Walk;
use crate::webhook::fan_out;

/// The result of one step of the relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relayed {
    /// Rows of the outbox that it read.
    pub rows: usize,
    /// Rows that could not be published now.
    pub failed: usize,
}

/// Makes every id and every drawn wait of this thread, and of a platform opened on it, follow from the seed; API keys
/// stay random.
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

/// Handles one batch of delivered messages of a topic, as its consumer does; one result per message, in order.
///
/// A handled message is to be acknowledged; one that failed is to be handed back.
pub async fn handle(platform: &Platform, topic: Topic, delivered: &[Incoming]) -> Vec<Result<()>> {
    dispatch::handle(platform, topic, delivered).await
}

/// Turns the events of all merchants into deliveries of webhooks; answers how many it made.
pub async fn fan_out(platform: &Platform) -> Result<usize> {
    fan_out::fan_out(platform).await
}

/// Releases the parked timers that no pause holds any longer.
pub async fn release(platform: &Platform) -> Result<()> {
    pause::release_all(platform).await
}

/// Begins a walk over the parked timers for the pauses that are being resumed; `None` if there are none.
pub async fn begin_walk(platform: &Platform) -> Result<Option<Walk>> {
    pause::begin_walk(platform).await
}

/// Releases the next parked timers of a walk; answers the walk if it goes on.
pub async fn walk_on(platform: &Platform, walk: Walk) -> Result<Option<Walk>> {
    let (_, walk) = pause::walk_on(platform, walk).await?;
    Ok(walk)
}

/// Ends every task of the platform at once, as a crash would; what was not committed is gone.
pub async fn crash(running: Running) {
    running.crash().await;
}
