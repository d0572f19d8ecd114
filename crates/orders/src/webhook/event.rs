//! Publishes that the platform has switched an endpoint off.

use serde::Serialize;
use utoipa::ToSchema;

use crate::ids::WebhookId;
use crate::messaging::event::{self, NewEvent, shown};
use crate::model::event::EventType;
use crate::model::webhook::Webhook;
use crate::store::Tx;
use crate::webhook::public_url;
use edge::instant::Instant;

/// A webhook endpoint, as the API shows it at the time of the event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookData)]
pub(crate) struct WebhookData<'a> {
    /// Its id.
    #[schema(value_type = String)]
    id: WebhookId,
    /// Where events are sent to.
    url: &'a str,
    /// Which types it gets; all if the list is empty.
    types: Vec<&'static str>,
    /// `disabled`.
    state: &'static str,
    /// Since when no delivery has succeeded.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    failing_since: Option<Instant>,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Instant,
}

/// Publishes the event.
pub(super) fn emit_disabled(tx: &mut Tx, webhook: &Webhook) {
    let data = WebhookData {
        id: webhook.id,
        url: public_url(&webhook.url),
        types: webhook.types.iter().map(|kind| kind.as_str()).collect(),
        state: webhook.state.as_str(),
        failing_since: webhook.failing_since_ms.map(|ms| shown(tx, ms)),
        created_at: shown(tx, webhook.created_ms),
    };
    event::emit(
        tx,
        NewEvent {
            kind: EventType::WebhookDisabled,
            merchant_id: &webhook.merchant_id,
            subject: webhook.id.to_string(),
            data: &data,
        },
    );
}
