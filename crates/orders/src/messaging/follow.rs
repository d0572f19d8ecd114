//! Lets a merchant read its events in the order of their commits, and wait for the next ones.

use std::pin::pin;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::ids::MerchantId;
use crate::limits::PAGE_ROWS_MAX;
use crate::model::event::EventPage;
use crate::platform::Platform;
use crate::store::event::{self, Wanted};

impl Platform {
    /// Up to `limit` events of the merchant, those after the place `after`, oldest first; 0 comes before the first.
    ///
    /// # Errors
    ///
    /// [`Error::EventsGone`] if events after the place are no longer kept.
    pub async fn events(
        &self,
        merchant_id: &MerchantId,
        after: i64,
        limit: usize,
    ) -> Result<EventPage> {
        let wanted = Wanted {
            merchant_id: merchant_id.clone(),
            after,
            limit: limit.clamp(1, PAGE_ROWS_MAX),
        };
        let page = event::page(self.readers(), wanted).await?;
        page.ok_or(Error::EventsGone)
    }

    /// The place of the merchant's latest event: what comes after it has not happened yet.
    pub async fn latest_event(&self, merchant_id: &MerchantId) -> Result<i64> {
        event::latest(self.readers(), merchant_id).await
    }

    /// Like [`Platform::events`], but waits up to `wait` for the first event.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyFollowers`] if too many callers wait already.
    pub async fn next_events(
        &self,
        merchant_id: &MerchantId,
        after: i64,
        limit: usize,
        wait: Duration,
    ) -> Result<EventPage> {
        let follower = self.followers().join(merchant_id);
        let follower = follower.ok_or(Error::TooManyFollowers)?;
        let written = follower.written();
        let mut over = pin!(self.clock().sleep(wait));
        loop {
            // Before the look: a commit in between is not missed.
            let mut notified = pin!(written.notified());
            notified.as_mut().enable();
            let page = self.events(merchant_id, after, limit).await?;
            if !page.events.is_empty() {
                return Ok(page);
            }
            tokio::select! {
                () = notified => {}
                () = &mut over => return Ok(page),
            }
        }
    }
}
