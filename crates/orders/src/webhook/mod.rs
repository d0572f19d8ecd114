//! Sends events to the endpoints of merchants, as Standard Webhooks 1.0 has it.
//!
//! The [`fan_out`] turns events into deliveries, one for each endpoint that takes them. Each delivery that is due has a
//! timer; when its message comes, [`deliver`] sends the event, and sets the timer again if that fails. Deliveries of one
//! subject to one endpoint go one after the other.

mod address;
pub(crate) mod deliver;
pub(crate) mod event;
pub(crate) mod fan_out;
pub(crate) mod places;
pub(crate) mod sender;
pub(crate) mod signature;

use crate::error::{Error, Result};
use crate::ids::{MerchantId, WebhookDeliveryId, WebhookId};
use crate::limits::{PAGE_ROWS_MAX, WEBHOOKS_MAX};
use crate::model::audit::{Actor, NewAudit};
use crate::model::webhook::{
    Delivery, DeliveryState, NewWebhook, Webhook, WebhookChange, WebhookState,
};
use crate::platform::Platform;
use crate::store::sql::Connection;
use crate::store::webhooks::deliveries::{self, Wanted};
use crate::store::{Tx, webhooks};
use crate::webhook::sender::{Reach, check_url};
use crate::webhook::signature::Secret;

/// Longest time for which two secrets sign, in ms.
const OVERLAP_MS_MAX: i64 = 7 * crate::config::DAY_MS;

/// An endpoint with its secret in text form, which is shown this once.
pub(crate) type WithSecret = (Webhook, String);

impl Platform {
    fn reach(&self) -> Reach {
        Reach::of(self.config())
    }

    /// Creates an endpoint; it gets the events from now on. Its secret is in the answer and nowhere later.
    pub async fn create_webhook(
        &self,
        merchant_id: &MerchantId,
        new: NewWebhook,
    ) -> Result<WithSecret> {
        check_url(&new.url, self.reach())?;
        let secret = Secret::random();
        let input = (merchant_id.clone(), new, secret.clone());
        let made = self.writer().run(input, |tx, (merchant_id, new, secret)| {
            Box::pin(create(tx, merchant_id, new, secret))
        });
        Ok((made.await?, secret.reveal()))
    }

    /// The merchant's endpoints, oldest first.
    pub async fn webhooks(&self, merchant_id: &MerchantId) -> Result<Vec<Webhook>> {
        webhooks::of_merchant(self.readers(), merchant_id).await
    }

    /// The endpoint.
    pub async fn webhook(&self, merchant_id: &MerchantId, id: WebhookId) -> Result<Webhook> {
        webhooks::find(self.readers(), merchant_id, id).await
    }

    /// Changes the endpoint. One that becomes active gets the events from then on.
    pub async fn change_webhook(
        &self,
        merchant_id: &MerchantId,
        id: WebhookId,
        change: WebhookChange,
    ) -> Result<Webhook> {
        if let Some(url) = &change.url {
            check_url(url, self.reach())?;
        }
        let input = (merchant_id.clone(), id, change);
        self.writer()
            .run(input, |tx, (merchant_id, id, change)| {
                Box::pin(change_in(tx, merchant_id, *id, change))
            })
            .await
    }

    /// Gives the endpoint a new secret, which is in the answer. For `overlap_ms` the old one signs too.
    pub async fn rotate_webhook_secret(
        &self,
        merchant_id: &MerchantId,
        id: WebhookId,
        overlap_ms: i64,
    ) -> Result<WithSecret> {
        crate::error::check_range("/overlap", overlap_ms, 0..=OVERLAP_MS_MAX)?;
        let secret = Secret::random();
        let input = (merchant_id.clone(), id, (secret.clone(), overlap_ms));
        let rotated = self.writer().run(input, |tx, (merchant_id, id, secret)| {
            Box::pin(rotate(tx, merchant_id, *id, secret))
        });
        Ok((rotated.await?, secret.reveal()))
    }

    /// Deletes the endpoint; what was not delivered to it is given up.
    pub async fn delete_webhook(&self, merchant_id: &MerchantId, id: WebhookId) -> Result<()> {
        let input = (merchant_id.clone(), id);
        self.writer()
            .run(input, |tx, (merchant_id, id)| {
                Box::pin(delete(tx, merchant_id, *id))
            })
            .await
    }

    /// Up to `limit` deliveries to the endpoint, those before `before`, the latest first; of one state if it is given.
    pub async fn webhook_deliveries(
        &self,
        merchant_id: &MerchantId,
        id: WebhookId,
        state: Option<DeliveryState>,
        (before, limit): (Option<WebhookDeliveryId>, usize),
    ) -> Result<Vec<Delivery>> {
        let wanted = Wanted {
            webhook_id: id,
            state,
            before,
            limit: limit.clamp(1, PAGE_ROWS_MAX),
        };
        let input = (merchant_id.clone(), wanted);
        self.readers()
            .snapshot(input, |connection, (merchant_id, wanted)| {
                Box::pin(list(connection, merchant_id, wanted))
            })
            .await
    }

    /// Sends an event again that was delivered or given up, as soon as no other of its subject is due.
    pub async fn resend_webhook(
        &self,
        merchant_id: &MerchantId,
        id: WebhookId,
        delivery_id: WebhookDeliveryId,
    ) -> Result<Delivery> {
        let input = (merchant_id.clone(), id, delivery_id);
        self.writer()
            .run(input, |tx, (merchant_id, id, delivery_id)| {
                Box::pin(resend(tx, merchant_id, *id, *delivery_id))
            })
            .await
    }
}

async fn list(
    connection: &mut Connection,
    merchant_id: &MerchantId,
    wanted: &Wanted,
) -> Result<Vec<Delivery>> {
    webhooks::find(&mut *connection, merchant_id, wanted.webhook_id).await?;
    deliveries::page(connection, wanted).await
}

async fn create(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    new: &NewWebhook,
    secret: &Secret,
) -> Result<Webhook> {
    let count = webhooks::count(tx, merchant_id).await?;
    if count >= WEBHOOKS_MAX {
        let detail =
            format!("the merchant has {count} webhooks; at most {WEBHOOKS_MAX} are allowed");
        return Err(Error::invalid("", detail));
    }
    let now_ms = tx.now_ms();
    let webhook = Webhook {
        id: WebhookId::new(now_ms),
        merchant_id: merchant_id.clone(),
        url: new.url.clone(),
        types: new.types.clone(),
        state: WebhookState::Active,
        failing_since_ms: None,
        old_secret_until_ms: None,
        created_ms: now_ms,
    };
    webhooks::insert(tx, &webhook, secret).await?;
    audit(tx, &webhook, (Actor::Merchant, "create"), None);
    Ok(webhook)
}

async fn change_in(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    id: WebhookId,
    change: &WebhookChange,
) -> Result<Webhook> {
    let before = webhooks::find(tx.conn(), merchant_id, id).await?;
    let mut webhook = before.clone();
    if let Some(url) = &change.url {
        webhook.url.clone_from(url);
    }
    if let Some(types) = &change.types {
        webhook.types.clone_from(types);
    }
    match change.active {
        Some(true) => webhook.state = WebhookState::Active,
        Some(false) if before.state == WebhookState::Active => webhook.state = WebhookState::Off,
        _ => {}
    }
    let woken = webhook.state == WebhookState::Active && before.state != WebhookState::Active;
    if woken {
        webhook.failing_since_ms = None;
    }
    if webhook != before {
        webhooks::update(tx, &webhook, woken).await?;
        audit(
            tx,
            &webhook,
            (Actor::Merchant, "change"),
            Some(before.state),
        );
    }
    Ok(webhook)
}

async fn rotate(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    id: WebhookId,
    (secret, overlap_ms): &(Secret, i64),
) -> Result<Webhook> {
    webhooks::find(tx.conn(), merchant_id, id).await?;
    let until_ms = tx.now_ms() + overlap_ms;
    webhooks::set_secret(tx, id, secret, until_ms).await?;
    let webhook = webhooks::find(tx.conn(), merchant_id, id).await?;
    let same = Some(webhook.state);
    audit(tx, &webhook, (Actor::Merchant, "rotate"), same);
    Ok(webhook)
}

async fn delete(tx: &mut Tx, merchant_id: &MerchantId, id: WebhookId) -> Result<()> {
    let mut webhook = webhooks::find(tx.conn(), merchant_id, id).await?;
    webhooks::delete(tx, id).await?;
    let before = std::mem::replace(&mut webhook.state, WebhookState::Deleted);
    audit(tx, &webhook, (Actor::Merchant, "delete"), Some(before));
    Ok(())
}

async fn resend(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    id: WebhookId,
    delivery_id: WebhookDeliveryId,
) -> Result<Delivery> {
    let webhook = webhooks::find(tx.conn(), merchant_id, id).await?;
    let found = deliveries::get(tx.conn(), delivery_id).await?;
    let found = found.filter(|delivery| delivery.webhook_id == id);
    let mut delivery = found.ok_or_else(|| Error::not_found("delivery", &delivery_id))?;
    if matches!(delivery.state, DeliveryState::Due | DeliveryState::Queued) {
        return Ok(delivery);
    }
    if webhook.state != WebhookState::Active {
        let detail = format!(
            "the webhook is {}; switch it on first",
            webhook.state.as_str()
        );
        return Err(Error::invalid("", detail));
    }
    if deliveries::event(tx.conn(), delivery.place)
        .await?
        .is_none()
    {
        return Err(Error::EventsGone);
    }
    delivery.tries = 0;
    if deliveries::is_one_due(tx, id, &delivery.subject).await? {
        delivery.state = DeliveryState::Queued;
        delivery.ended_ms = None;
        deliveries::update(tx, &delivery).await?;
    } else {
        deliver::make_due(tx, &mut delivery).await?;
    }
    tx.audit(NewAudit {
        subject: id.to_string(),
        merchant_id: merchant_id.clone(),
        entity: delivery_id.to_string(),
        actor: Actor::Merchant,
        action: "resend",
        from: None,
        to: Some(delivery.state.as_str()),
        detail: None,
    });
    Ok(delivery)
}

/// The URL without its query, which may hold a secret.
fn public_url(url: &str) -> &str {
    url.split('?').next().unwrap_or(url)
}

/// Records what was done to the endpoint. The secret is in no row.
fn audit(
    tx: &mut Tx,
    webhook: &Webhook,
    (actor, action): (Actor, &'static str),
    from: Option<WebhookState>,
) {
    tx.audit(NewAudit {
        subject: webhook.id.to_string(),
        merchant_id: webhook.merchant_id.clone(),
        entity: webhook.id.to_string(),
        actor,
        action,
        from: from.map(WebhookState::as_str),
        to: Some(webhook.state.as_str()),
        detail: Some(public_url(&webhook.url).to_owned()),
    });
}
