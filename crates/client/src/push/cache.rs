//! Provides the limit on messages in memory.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes are counted in units of this size.
const UNIT_BYTES: usize = 1_024;

/// The limits on the number of messages and on their bytes.
#[derive(Debug)]
pub(super) struct Cache {
    messages: Arc<Semaphore>,
    messages_max: u32,
    units: Arc<Semaphore>,
    units_max: u32,
}

/// The room of messages that were requested and have not arrived yet.
#[derive(Debug)]
pub(super) struct Reserved(OwnedSemaphorePermit);

/// The room of one message, released on drop.
#[derive(Debug)]
pub(super) struct Room {
    _message: OwnedSemaphorePermit,
    _units: Option<OwnedSemaphorePermit>,
}

impl Cache {
    pub(super) fn new(messages: usize, bytes: usize) -> Self {
        let bounded = |count: usize| {
            let count = u32::try_from(count).unwrap_or(u32::MAX).clamp(1, 1 << 24);
            let semaphore = Semaphore::new(usize::try_from(count).unwrap_or(1));
            (Arc::new(semaphore), count)
        };
        let (messages, messages_max) = bounded(messages);
        let (units, units_max) = bounded(bytes / UNIT_BYTES);
        Self {
            messages,
            messages_max,
            units,
            units_max,
        }
    }

    /// Waits for room for `messages`, or for the limit if that is lower; returns how many may be requested.
    pub(super) async fn reserve(&self, messages: usize) -> (Reserved, usize) {
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        let messages = messages.clamp(1, self.messages_max);
        let permit = Arc::clone(&self.messages)
            .acquire_many_owned(messages)
            .await
            .expect("the semaphore is never closed");
        (Reserved(permit), usize::try_from(messages).unwrap_or(1))
    }

    /// The room of one message that has arrived. Waits while there are too many bytes, so that no more are requested.
    pub(super) async fn hold(&self, reserved: &mut Reserved, bytes: usize) -> Option<Room> {
        let message = reserved.0.split(1)?;
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        let units = Arc::clone(&self.units)
            .acquire_many_owned(std::cmp::min(units, self.units_max))
            .await;
        Some(Room {
            _message: message,
            _units: units.ok(),
        })
    }

    /// Waits until the cache is empty.
    pub(super) async fn empty(&self) {
        drop(self.messages.acquire_many(self.messages_max).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_is_released() {
        let cache = Cache::new(10, 4 * UNIT_BYTES);
        let (mut reserved, messages) = cache.reserve(100).await;
        assert_eq!(messages, 10);
        let first = cache.hold(&mut reserved, 3 * UNIT_BYTES).await;
        // Larger than the limit: it takes all units, once the first is released.
        let second = cache.hold(&mut reserved, 100 * UNIT_BYTES);
        let (second, ()) = tokio::join!(second, async {
            tokio::task::yield_now().await;
            drop(first);
        });
        assert_eq!(cache.units.available_permits(), 0);
        assert_eq!(cache.messages.available_permits(), 1);
        drop((reserved, second));
        cache.empty().await;
        assert_eq!(cache.units.available_permits(), 4);
    }
}
