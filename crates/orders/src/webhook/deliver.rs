//! Sends a delivery whose timer has fired, and decides what comes of it.

use std::time::Duration;

use crate::config::DAY_MS;
use crate::error::Result;
use crate::ids::{WebhookDeliveryId, WebhookId};
use crate::limits::{NAME_CHARS_MAX, WEBHOOK_TIMEOUT};
use crate::metrics::Metric;
use crate::model::audit::{Actor, NewAudit};
use crate::model::timer::{NewTimer, TimerKind, TimerRow};
use crate::model::webhook::{Delivery, DeliveryState, DeliveryTry, WebhookState};
use crate::platform::Platform;
use crate::store::sql::Connection;
use crate::store::webhooks::deliveries;
use crate::store::{Tx, webhooks};
use crate::timer;
use crate::webhook::event::emit_disabled;
use crate::webhook::places::{NoPlace, Place, Wanted};
use crate::webhook::sender::WebhookRequest;
use crate::webhook::signature::{Secret, signatures};

/// Waits after each try that failed, in ms; after the last one the delivery is given up.
pub(crate) const DELAYS_MS: [i64; 9] = [
    5_000,
    5 * 60_000,
    30 * 60_000,
    2 * HOUR_MS,
    5 * HOUR_MS,
    10 * HOUR_MS,
    14 * HOUR_MS,
    20 * HOUR_MS,
    24 * HOUR_MS,
];
const HOUR_MS: i64 = 3_600_000;
/// An endpoint for which nothing has succeeded for this long is switched off, in ms.
pub(crate) const FAILING_MS_MAX: i64 = 5 * DAY_MS;
/// The status with which an endpoint says that it is gone.
const GONE: u16 = 410;

/// What is to be sent.
struct Job {
    webhook_id: WebhookId,
    /// Whether the last delivery to the endpoint failed.
    is_failing: bool,
    url: String,
    secrets: Vec<Secret>,
    event_id: String,
    body: String,
}

/// What there is to do about a delivery.
enum Work {
    Send(Job),
    /// It cannot be sent: its endpoint is off, or its event is no longer kept.
    GiveUp(&'static str),
    /// It is not due.
    Nothing,
}

/// The outcome of a try.
#[derive(Clone, Debug)]
enum Outcome {
    Tried(DeliveryTry),
    GivenUp(&'static str),
}

/// Handles a due timer of a delivery; answers whether there was something to do.
pub(crate) async fn fire(platform: &Platform, row: TimerRow) -> Result<bool> {
    let id = WebhookDeliveryId::from_uuid(row.id);
    let input = (id, platform.now_ms());
    let work = platform
        .readers()
        .snapshot(input, |connection, (id, now_ms)| {
            Box::pin(read(connection, *id, *now_ms))
        });
    let job = match work.await? {
        Work::Send(job) => job,
        Work::GiveUp(reason) => {
            record(platform, row, Outcome::GivenUp(reason)).await?;
            return Ok(true);
        }
        Work::Nothing => {
            let disarmed = platform.writer().run(row.id, |tx, id| {
                Box::pin(timer::disarm(tx, TimerKind::Webhook, [*id]))
            });
            disarmed.await?;
            return Ok(false);
        }
    };
    let wanted = Wanted {
        merchant_id: row.merchant_id.clone(),
        webhook_id: job.webhook_id,
        delivery_id: id,
        is_failing: job.is_failing,
    };
    match platform.places().take(wanted, platform.now_ms()) {
        Ok(place) => {
            let tried = send(platform, job, &place).await;
            place.note_took(tried.took_ms);
            record(platform, row, Outcome::Tried(tried)).await?;
        }
        Err(NoPlace::Sending) => {}
        Err(NoPlace::Full { wait_ms }) => {
            let waits = platform.writer().run((row, wait_ms), |tx, (row, wait_ms)| {
                Box::pin(timer::wait_for(tx, row, *wait_ms))
            });
            waits.await?;
        }
    }
    Ok(true)
}

async fn read(connection: &mut Connection, id: WebhookDeliveryId, now_ms: i64) -> Result<Work> {
    let delivery = deliveries::get(&mut *connection, id).await?;
    let Some(delivery) = delivery.filter(|delivery| delivery.state == DeliveryState::Due) else {
        return Ok(Work::Nothing);
    };
    let webhook = webhooks::get(&mut *connection, delivery.webhook_id).await?;
    let Some(webhook) = webhook.filter(|webhook| webhook.state == WebhookState::Active) else {
        return Ok(Work::GiveUp("the webhook is switched off"));
    };
    let Some(body) = deliveries::event(&mut *connection, delivery.place).await? else {
        return Ok(Work::GiveUp("the event is no longer kept"));
    };
    Ok(Work::Send(Job {
        webhook_id: webhook.id,
        is_failing: webhook.failing_since_ms.is_some(),
        url: webhook.url,
        secrets: webhooks::secrets(connection, webhook.id, now_ms).await?,
        event_id: delivery.event_id,
        body,
    }))
}

async fn send(platform: &Platform, job: Job, place: &Place) -> DeliveryTry {
    let _turn = place.turn().await;
    let at_ms = platform.now_ms();
    let timestamp_s = i64::try_from(platform.clock().wall_now_ms() / 1_000).unwrap_or(i64::MAX);
    let request = WebhookRequest {
        signature: signatures(&job.secrets, &job.event_id, timestamp_s, &job.body),
        url: job.url,
        id: job.event_id,
        timestamp_s,
        body: job.body,
    };
    let sender = platform.places().sender();
    let sent = tokio::select! {
        sent = sender.send(request) => sent,
        () = platform.clock().sleep(WEBHOOK_TIMEOUT) => Err(timed_out(WEBHOOK_TIMEOUT)),
    };
    let (status, error) = match sent {
        Ok(status) => (Some(status), None),
        Err(error) => (None, Some(error.chars().take(NAME_CHARS_MAX).collect())),
    };
    DeliveryTry {
        at_ms,
        took_ms: platform.now_ms() - at_ms,
        status,
        error,
    }
}

fn timed_out(limit: Duration) -> String {
    format!("there was no answer within {} s", limit.as_secs())
}

async fn record(platform: &Platform, row: TimerRow, outcome: Outcome) -> Result<()> {
    platform
        .writer()
        .run((row, outcome), |tx, (row, outcome)| {
            Box::pin(apply(tx, row, outcome))
        })
        .await
}

async fn apply(tx: &mut Tx, row: &TimerRow, outcome: &Outcome) -> Result<()> {
    let id = WebhookDeliveryId::from_uuid(row.id);
    let delivery = deliveries::get(tx.conn(), id).await?;
    let Some(mut delivery) = delivery.filter(|delivery| delivery.state == DeliveryState::Due)
    else {
        return timer::disarm(tx, TimerKind::Webhook, [row.id]).await;
    };
    let tried = match outcome {
        Outcome::Tried(tried) => tried,
        Outcome::GivenUp(reason) => {
            let now_ms = tx.now_ms();
            delivery.log.push(DeliveryTry {
                at_ms: now_ms,
                took_ms: 0,
                status: None,
                error: Some((*reason).to_owned()),
            });
            return give_up_all(tx, delivery).await;
        }
    };
    delivery.log.push(tried.clone());
    delivery.tries += 1;
    if tried.succeeded() {
        webhooks::set_working(tx, delivery.webhook_id).await?;
        return end(tx, delivery, DeliveryState::Delivered).await;
    }
    if is_disabled_by(tx, &delivery, tried).await? {
        return give_up_all(tx, delivery).await;
    }
    let place = usize::try_from(delivery.tries - 1).unwrap_or(usize::MAX);
    let Some(delay_ms) = DELAYS_MS.get(place) else {
        return end(tx, delivery, DeliveryState::GivenUp).await;
    };
    delivery.next_ms = tx.now_ms() + delay_ms;
    deliveries::update(tx, &delivery).await?;
    timer::retry_after(tx, row, *delay_ms).await
}

/// Ends the delivery; the next of its subject becomes due.
async fn end(tx: &mut Tx, mut delivery: Delivery, state: DeliveryState) -> Result<()> {
    finish(tx, &mut delivery, state).await?;
    let next = deliveries::next_queued(tx, delivery.webhook_id, &delivery.subject).await?;
    match next {
        Some(mut next) => make_due(tx, &mut next).await,
        None => Ok(()),
    }
}

/// Gives up the delivery and those that wait for it.
async fn give_up_all(tx: &mut Tx, mut delivery: Delivery) -> Result<()> {
    finish(tx, &mut delivery, DeliveryState::GivenUp).await?;
    deliveries::give_up_queued(tx, delivery.webhook_id, &delivery.subject).await
}

async fn finish(tx: &mut Tx, delivery: &mut Delivery, state: DeliveryState) -> Result<()> {
    delivery.state = state;
    delivery.ended_ms = Some(tx.now_ms());
    deliveries::update(tx, delivery).await?;
    tx.record(Metric::Delivery(state));
    timer::disarm(tx, TimerKind::Webhook, [delivery.id.uuid()]).await
}

/// Makes a delivery due that is queued or has ended.
pub(super) async fn make_due(tx: &mut Tx, delivery: &mut Delivery) -> Result<()> {
    delivery.state = DeliveryState::Due;
    delivery.version += 1;
    delivery.next_ms = tx.now_ms();
    delivery.ended_ms = None;
    deliveries::update(tx, delivery).await?;
    timer::set(tx, timer_of(delivery)).await
}

/// The timer of a delivery that is due.
pub(super) fn timer_of(delivery: &Delivery) -> NewTimer {
    NewTimer {
        kind: TimerKind::Webhook,
        id: delivery.id.uuid(),
        merchant_id: delivery.merchant_id.clone(),
        due_ms: delivery.next_ms,
        fire_ms: delivery.next_ms,
        version: delivery.version,
    }
}

/// Records that the endpoint has failed; answers whether it is switched off for that.
async fn is_disabled_by(tx: &mut Tx, delivery: &Delivery, tried: &DeliveryTry) -> Result<bool> {
    let since_ms = webhooks::set_failing(tx, delivery.webhook_id).await?;
    let failing = tx.now_ms() - since_ms >= FAILING_MS_MAX;
    if !failing && tried.status != Some(GONE) {
        return Ok(false);
    }
    let webhook = webhooks::get(tx.conn(), delivery.webhook_id).await?;
    let Some(mut webhook) = webhook.filter(|webhook| webhook.state == WebhookState::Active) else {
        return Ok(true);
    };
    webhook.state = WebhookState::Disabled;
    webhooks::update(tx, &webhook, false).await?;
    let reason = if failing {
        "no delivery has succeeded for 5 days"
    } else {
        "it answered 410"
    };
    tracing::warn!(webhook = %webhook.id, merchant = %webhook.merchant_id, reason, "switch a webhook off");
    tx.audit(NewAudit {
        subject: webhook.id.to_string(),
        merchant_id: webhook.merchant_id.clone(),
        entity: webhook.id.to_string(),
        actor: Actor::System,
        action: "disable",
        from: Some(WebhookState::Active.as_str()),
        to: Some(webhook.state.as_str()),
        detail: Some(reason.to_owned()),
    });
    emit_disabled(tx, &webhook);
    Ok(true)
}
