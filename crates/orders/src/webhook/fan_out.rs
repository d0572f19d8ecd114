//! Turns events into deliveries: one for each active endpoint of their merchant that takes their type.
//!
//! Each endpoint has a place among the events of its merchant, which moves on in the transaction that writes the
//! deliveries, so that none is missed or made twice.

use std::collections::BTreeSet;

use tokio::sync::watch;

use crate::error::Result;
use crate::ids::{MerchantId, WebhookId};
use crate::model::webhook::{DeliveryState, Webhook};
use crate::platform::Platform;
use crate::store::webhooks::deliveries::{self, Unseen};
use crate::store::{Tx, webhooks};
use crate::timer;
use crate::webhook::deliver;

/// Events that one transaction turns into deliveries.
const EVENTS_MAX: usize = 100;
/// Endpoints that are read at once.
const ENDPOINTS_MAX: usize = 100;

/// Events to turn into deliveries to an endpoint.
struct Input {
    id: WebhookId,
    /// The endpoint's place among the events of its merchant.
    seen: i64,
    /// Its place afterwards.
    until: i64,
    events: Vec<Unseen>,
}

/// Turns events into deliveries until stopped, woken by the commits that write events.
pub(crate) async fn run(platform: Platform, mut stop: watch::Receiver<bool>) {
    let every = platform.config().sweep_every;
    // At the start, and now and then as the net: every endpoint.
    let mut all = true;
    loop {
        let merchants = platform.followers().take_written();
        let done = if all {
            fan_out(&platform).await.map(drop)
        } else {
            fan_out_of(&platform, &merchants).await
        };
        // What was not done is found again by looking at every endpoint.
        let failed = done.is_err();
        if let Err(error) = done {
            tracing::warn!(%error, "make deliveries of webhooks");
        }
        all = tokio::select! {
            biased;
            _ = stop.changed() => return,
            () = platform.followers().any_written() => false,
            () = platform.clock().sleep(every) => true,
        } || failed;
    }
}

/// Turns the events of all merchants into deliveries; answers how many it made.
pub(crate) async fn fan_out(platform: &Platform) -> Result<usize> {
    let mut made = 0;
    let mut after = None;
    loop {
        let page = webhooks::active_after(platform.readers(), after, ENDPOINTS_MAX).await?;
        let more = page.len() == ENDPOINTS_MAX;
        for (webhook, seen) in page {
            after = Some(webhook.id);
            made += catch_up(platform, &webhook, seen).await?;
        }
        if !more {
            return Ok(made);
        }
    }
}

/// Turns the events of these merchants into deliveries.
async fn fan_out_of(platform: &Platform, merchants: &BTreeSet<MerchantId>) -> Result<()> {
    for merchant_id in merchants {
        for (webhook, seen) in webhooks::active_of(platform.readers(), merchant_id).await? {
            catch_up(platform, &webhook, seen).await?;
        }
    }
    Ok(())
}

/// Turns the events after `seen` into deliveries to the endpoint; answers how many it made.
pub(crate) async fn catch_up(platform: &Platform, webhook: &Webhook, seen: i64) -> Result<usize> {
    let mut total = 0;
    let mut seen = seen;
    loop {
        let readers = platform.readers();
        let events = deliveries::unseen(readers, &webhook.merchant_id, seen, EVENTS_MAX).await?;
        let Some(until) = events.last().map(|event| event.place) else {
            return Ok(total);
        };
        let more = events.len() == EVENTS_MAX;
        let input = Input {
            id: webhook.id,
            seen,
            until,
            events,
        };
        let made = platform
            .writer()
            .run(input, |tx, input| Box::pin(make(tx, input)));
        // Otherwise another task has moved it on, or it is off.
        let Some(made) = made.await? else {
            return Ok(total);
        };
        total += made;
        seen = until;
        if !more {
            return Ok(total);
        }
    }
}

async fn make(tx: &mut Tx, input: &Input) -> Result<Option<usize>> {
    if !webhooks::move_seen(tx, input.id, input.seen, input.until).await? {
        return Ok(None);
    }
    // Its types may have been changed since it was read.
    let Some(webhook) = webhooks::get(tx.conn(), input.id).await? else {
        return Ok(None);
    };
    let mut made = 0;
    for event in &input.events {
        if !webhook.takes(&event.kind) {
            continue;
        }
        made += 1;
        let to = (webhook.id, &webhook.merchant_id);
        let delivery = deliveries::insert(tx, to, event).await?;
        if delivery.state == DeliveryState::Due {
            timer::arm(tx, deliver::timer_of(&delivery));
        }
    }
    Ok(Some(made))
}
