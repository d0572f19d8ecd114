//! Defines webhook endpoints and the deliveries of events to them.

use serde::{Deserialize, Serialize};

use crate::ids::{MerchantId, WebhookDeliveryId, WebhookId};
use crate::model::event::EventType;
use crate::model::stored::stored_enum;

stored_enum! {
    /// The state of a webhook endpoint.
    pub enum WebhookState ("webhook state") {
        /// Events are delivered to it.
        Active = 1 "active",
        /// The merchant has switched it off.
        Off = 2 "off",
        /// The platform has switched it off: no delivery has succeeded for days, or it answered 410.
        Disabled = 3 "disabled",
        /// It was deleted; the row goes with its last delivery.
        Deleted = 4 "deleted",
    }
}

stored_enum! {
    /// The state of the delivery of an event to an endpoint.
    pub enum DeliveryState ("delivery state") {
        /// It is sent as soon as its time comes.
        Due = 1 "due",
        /// It waits for an earlier event of the same subject.
        Queued = 2 "queued",
        /// The endpoint answered with a status from 200 to 299.
        Delivered = 3 "delivered",
        /// It was tried as often as is allowed, or the endpoint was switched off.
        GivenUp = 4 "given_up",
    }
}

/// An endpoint of a merchant that events are sent to. Its secrets are kept apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its id.
    pub id: WebhookId,
    /// The merchant whose events it gets.
    pub merchant_id: MerchantId,
    /// Where they are sent to.
    pub url: String,
    /// Which types it gets; all if there is none.
    pub types: Vec<EventType>,
    /// Whether it gets any.
    pub state: WebhookState,
    /// Since when no delivery has succeeded while some failed, in ms since the Unix epoch.
    pub failing_since_ms: Option<i64>,
    /// Until when webhooks are also signed with the secret before the present one, in ms since the Unix epoch.
    pub old_secret_until_ms: Option<i64>,
    /// When it was created, in ms since the Unix epoch.
    pub created_ms: i64,
}

impl Webhook {
    /// Whether it gets events of this type.
    pub(crate) fn takes(&self, kind: &str) -> bool {
        self.types.is_empty() || self.types.iter().any(|each| each.as_str() == kind)
    }
}

/// An endpoint to create.
#[derive(Clone, Debug)]
pub struct NewWebhook {
    /// Where events are sent to.
    pub url: String,
    /// Which types it gets; all if there is none.
    pub types: Vec<EventType>,
}

/// What is to change of an endpoint; what is left out stays.
#[derive(Clone, Debug, Default)]
pub struct WebhookChange {
    /// Where events are sent to.
    pub url: Option<String>,
    /// Which types it gets; all if there is none.
    pub types: Option<Vec<EventType>>,
    /// Whether it gets any.
    pub active: Option<bool>,
}

/// One try to deliver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryTry {
    /// When it began, in ms since the Unix epoch.
    pub at_ms: i64,
    /// How long it took, in ms.
    pub took_ms: i64,
    /// The status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl DeliveryTry {
    /// Whether the endpoint has taken the event.
    pub(crate) fn succeeded(&self) -> bool {
        self.status
            .is_some_and(|status| (200..300).contains(&status))
    }
}

/// The delivery of an event to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its id.
    pub id: WebhookDeliveryId,
    /// The endpoint.
    pub webhook_id: WebhookId,
    /// The merchant of both.
    pub merchant_id: MerchantId,
    /// The id of the event, which is the value of `webhook-id`.
    pub event_id: String,
    /// The type of the event.
    pub kind: String,
    /// What the event is about.
    pub subject: String,
    /// The place of the event among those of the merchant.
    pub place: i64,
    /// Its state.
    pub state: DeliveryState,
    /// Rises each time it becomes due.
    pub version: i64,
    /// How often it was tried since it was made or sent again.
    pub tries: i64,
    /// When it is tried next, in ms since the Unix epoch.
    pub next_ms: i64,
    /// The last tries, oldest first.
    pub log: Vec<DeliveryTry>,
    /// When it was made, in ms since the Unix epoch.
    pub created_ms: i64,
    /// When it was delivered or given up, in ms since the Unix epoch.
    pub ended_ms: Option<i64>,
}
