//! Implements the end of a delivery that its consumer never worked on: it uses up none of the deliveries allowed.

use crate::delivery::lease::Again;
use crate::engine::Engine;
use crate::error::Error;
use crate::format::handle::ReceiptHandle;
use crate::store::Store;

impl<S: Store> Engine<S> {
    /// Hands a delivery back that its consumer did not work on, for instance because the answer that carried it was
    /// lost: it comes again as the same attempt, under a new handle.
    ///
    /// It comes at once the first three times, then after 1 s, 2 s and so on up to 1 min. From the ninth time on
    /// it counts as a failure, so that a message no consumer can take becomes a dead letter in the end.
    pub fn give_back(&mut self, now_ms: u64, handle: &ReceiptHandle) -> Result<(), Error> {
        let now_ms = self.stamp(now_ms);
        let key = self.key_of(handle)?;
        self.spend(1);
        self.note_seen(now_ms, key);
        let again = Again::unworked(handle.returned);
        self.end_delivery(now_ms, key, handle, again)?;
        self.counters.traffic.given_back += 1;
        Ok(())
    }

    /// Lets the lease of a delivery end within `within_ms`, or when it would have ended if that is earlier. The end
    /// counts as handed back unworked, unless [`Engine::change_invisible`] renews the lease before.
    pub fn let_lapse(
        &mut self,
        now_ms: u64,
        handle: &ReceiptHandle,
        within_ms: u64,
    ) -> Result<(), Error> {
        let now_ms = self.stamp(now_ms);
        let key = self.key_of(handle)?;
        self.spend(1);
        let end_ms = now_ms.saturating_add(within_ms);
        let until_ms = match self.lease_end_of(key, handle) {
            Some(until_ms) => std::cmp::min(until_ms, end_ms),
            None => return Err(Error::Expired),
        };
        self.lease_until(now_ms, key, handle, (until_ms, false))
    }
}
