//! Publishes events for other systems: CloudEvents 1.0 in JSON, through the outbox.

use edge::instant::Instant;
use serde::Serialize;

use crate::ids::{EventId, MerchantId};
use crate::model::event::EventType;
use crate::model::outbox::{OutboxRow, Topic};
use crate::store::Tx;

/// An event to publish with the present transaction.
pub(crate) struct NewEvent<'a, D> {
    pub(crate) kind: EventType,
    pub(crate) merchant_id: &'a MerchantId,
    /// The id of what it is about; events of one subject are delivered in order.
    pub(crate) subject: String,
    /// What it is about as the API shows it, with its version.
    pub(crate) data: &'a D,
}

#[derive(Serialize)]
struct CloudEvent<'a, D> {
    specversion: &'static str,
    id: EventId,
    source: String,
    #[serde(rename = "type")]
    kind: &'static str,
    subject: &'a str,
    time: Instant,
    datacontenttype: &'static str,
    data: &'a D,
}

/// The instant of the wall clock that an instant of the engine clock (ms since the Unix epoch) is at this request.
pub(crate) fn shown(tx: &Tx, engine_ms: i64) -> Instant {
    Instant(engine_ms.saturating_sub(tx.ahead_ms()))
}

/// Puts the event into the outbox.
pub(crate) fn emit<D: Serialize>(tx: &mut Tx, event: NewEvent<'_, D>) {
    let now_ms = tx.now_ms();
    let id = EventId::new(now_ms);
    let body = CloudEvent {
        specversion: "1.0",
        id,
        source: format!("/merchants/{}", event.merchant_id),
        kind: event.kind.as_str(),
        subject: &event.subject,
        time: Instant(tx.wall_now_ms()),
        datacontenttype: "application/json",
        data: event.data,
    };
    let body =
        serde_json::to_string(&body).expect("event data are plain structs, which are always JSON");
    tx.publish(OutboxRow {
        merchant_id: event.merchant_id.clone(),
        topic: Topic::Events,
        message_id: id.to_string(),
        subject: event.subject,
        tag: event.kind.as_str(),
        deliver_at_ms: None,
        body,
        created_ms: now_ms,
    });
}
