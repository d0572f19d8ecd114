//! Serves the events of a merchant, and describes their types.

use std::fmt::Write as _;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use edge::admission::Place;
use edge::instant::Span;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::ApiState;
use super::auth::Merchant;
use super::extract::{StrictQuery, page_limit};
use super::problem::{Problem, Problems};
use crate::coupon::event::CouponData;
use crate::error::Result;
use crate::limits::EVENTS_WAIT_MS_MAX;
use crate::model::event::{EventPage, EventType};
use crate::order::event::OrderData;
use crate::payment::event::{AttemptData, PaymentData, UnmatchedData};
use crate::refund::event::RefundData;
use crate::webhook::event::WebhookData;

/// In place of a cursor: only what happens from now on.
const LATEST: &str = "latest";

/// Which events to read.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// `next_cursor` of the answer before; from the oldest event that is kept if left out. `latest` reads nothing and
    /// answers the cursor of what comes next.
    after: Option<String>,
    /// How many events at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<usize>,
    /// How long to wait for the first event, up to 30 s; not at all if left out.
    #[param(value_type = Option<String>, example = "30s")]
    wait: Option<Span>,
}

/// An event: a `CloudEvent` 1.0 in JSON. docs/events.md has the types and the schema of the data of each.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub(super) struct EventBody {
    /// `1.0`, the version of CloudEvents.
    specversion: String,
    /// Its id, the same for every repetition.
    #[schema(example = "evt_01h455vb4pex5vsknk084sn02q")]
    id: String,
    /// `/merchants/` and the id of the merchant.
    #[schema(example = "/merchants/default")]
    source: String,
    /// Its type.
    #[schema(example = "order.paid")]
    r#type: String,
    /// The id of the order, coupon or other thing it is about. Events of one subject are in order.
    #[schema(example = "ord_01h455vb4pex5vsknk084sn02q")]
    subject: String,
    /// When it happened.
    #[schema(format = DateTime)]
    time: String,
    /// `application/json`.
    datacontenttype: String,
    /// What changed, as it is after the change.
    #[schema(value_type = Object)]
    data: serde_json::Value,
}

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventPage)]
pub(super) struct PageBody {
    /// The events in the order in which they were committed.
    items: Vec<EventBody>,
    /// What to pass as `after` next time; there is always one.
    next_cursor: String,
}

/// Lists the merchant's events in the order in which they were committed, and waits for the first one if requested.
///
/// Events are kept for 30 days unless configured otherwise.
#[utoipa::path(
    get,
    path = "/v1/events",
    tag = "events",
    params(ListQuery),
    responses((status = 200, description = "A page of events", body = PageBody), Problems)
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    merchant: Merchant,
    place: Option<Extension<Place>>,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> Result<Response, Problem> {
    let limit = page_limit(query.limit)?;
    let wait = query.wait.unwrap_or(Span { ms: 0 });
    if wait.ms > EVENTS_WAIT_MS_MAX {
        let longest = Span {
            ms: EVENTS_WAIT_MS_MAX,
        };
        let detail = format!("wait is {wait}; the longest is {longest}");
        return Err(Problem::parameter("wait", detail));
    }
    let platform = state.platform();
    let after = match query.after.as_deref() {
        Some(LATEST) => {
            let next = platform.latest_event(&merchant.id).await?;
            let events = Vec::new();
            return Ok(answer(&EventPage { events, next }));
        }
        Some(cursor) => place_of(cursor)?,
        None => 0,
    };
    if wait.ms == 0 {
        let page = platform.events(&merchant.id, after, limit).await?;
        return Ok(answer(&page));
    }
    // Those that wait have a limit of their own.
    if let Some(Extension(place)) = place {
        place.leave();
    }
    let next = platform.next_events(&merchant.id, after, limit, wait.duration());
    let page = tokio::select! {
        biased;
        page = next => page?,
        () = state.stopping() => EventPage { events: Vec::new(), next: after },
    };
    Ok(answer(&page))
}

fn place_of(cursor: &str) -> Result<i64, Problem> {
    let digits = !cursor.is_empty() && cursor.bytes().all(|byte| byte.is_ascii_digit());
    match cursor.parse() {
        Ok(place) if digits => Ok(place),
        _ => {
            let detail =
                "after is not a cursor: pass `next_cursor` of an earlier answer, or `latest`";
            Err(Problem::parameter("after", detail))
        }
    }
}

/// The page, with the events as they are stored.
fn answer(page: &EventPage) -> Response {
    let mut body = String::from("{\"items\":[");
    for (number, event) in page.events.iter().enumerate() {
        if number > 0 {
            body.push(',');
        }
        body.push_str(&event.body);
    }
    // Writing to a text cannot fail.
    let _ = write!(body, "],\"next_cursor\":\"{}\"}}", page.next);
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

/// A form of the data of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Order,
    Attempt,
    Payment,
    UnmatchedPayment,
    Refund,
    Coupon,
    Webhook,
}

impl Form {
    const ALL: [Self; 7] = [
        Self::Order,
        Self::Attempt,
        Self::Payment,
        Self::UnmatchedPayment,
        Self::Refund,
        Self::Coupon,
        Self::Webhook,
    ];

    fn of(kind: EventType) -> Self {
        match kind {
            EventType::OrderCreated
            | EventType::OrderExtended
            | EventType::OrderClosing
            | EventType::OrderNeedsOperator
            | EventType::OrderPaid
            | EventType::OrderClosed => Self::Order,
            EventType::PaymentStarted
            | EventType::PaymentClosed
            | EventType::PaymentFailed
            | EventType::PaymentUnknown
            | EventType::PaymentNeedsOperator => Self::Attempt,
            EventType::PaymentAccepted
            | EventType::PaymentLate
            | EventType::PaymentDuplicate
            | EventType::PaymentWrongAmount
            | EventType::PaymentWrongCurrency => Self::Payment,
            EventType::PaymentUnmatched => Self::UnmatchedPayment,
            EventType::RefundRequested
            | EventType::RefundSubmitted
            | EventType::RefundProcessing
            | EventType::RefundFailedRetryable
            | EventType::RefundSucceeded
            | EventType::RefundNeedsOperator
            | EventType::RefundWithdrawn
            | EventType::RefundReopened => Self::Refund,
            EventType::CouponIssued
            | EventType::CouponHeld
            | EventType::CouponUsed
            | EventType::CouponReturned
            | EventType::CouponExpired
            | EventType::CouponRevoked
            | EventType::CouponGiven => Self::Coupon,
            EventType::WebhookDisabled => Self::Webhook,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Attempt => "attempt",
            Self::Payment => "payment",
            Self::UnmatchedPayment => "unmatched payment",
            Self::Refund => "refund",
            Self::Coupon => "coupon",
            Self::Webhook => "webhook",
        }
    }

    fn schema(self) -> serde_json::Value {
        let schema = match self {
            Self::Order => OrderData::schema(),
            Self::Attempt => AttemptData::schema(),
            Self::Payment => PaymentData::schema(),
            Self::UnmatchedPayment => UnmatchedData::schema(),
            Self::Refund => RefundData::schema(),
            Self::Coupon => CouponData::schema(),
            Self::Webhook => WebhookData::schema(),
        };
        serde_json::to_value(schema).expect("a schema is always JSON")
    }
}

/// The JSON schema of the data of an event of this type.
pub fn event_data_schema(kind: EventType) -> serde_json::Value {
    Form::of(kind).schema()
}

/// What a type means, as docs/events.md says it.
fn meaning(kind: EventType) -> &'static str {
    match kind {
        EventType::OrderCreated => "An order was created; its stock is held.",
        EventType::OrderExtended => "The deadline was moved to a later instant.",
        EventType::OrderClosing => {
            "The order ends, but a gateway must first confirm that no money can come for it."
        }
        EventType::OrderNeedsOperator => {
            "It has been closing for too long without an answer of its gateway."
        }
        EventType::OrderPaid => "It was paid, or there was nothing to pay.",
        EventType::OrderClosed => "It ended unpaid, or was undone; its stock is available again.",
        EventType::PaymentStarted => "A payment attempt was started.",
        EventType::PaymentClosed => "The gateway takes no money for the attempt any longer.",
        EventType::PaymentFailed => {
            "The attempt never reached the gateway, or the gateway refused it."
        }
        EventType::PaymentUnknown => {
            "The order ended before the gateway had answered; the gateway is still asked."
        }
        EventType::PaymentNeedsOperator => "The gateway gave no usable answer about the attempt.",
        EventType::PaymentAccepted => "Money came and paid the order.",
        EventType::PaymentLate => "Money came after the order had closed; it is refunded.",
        EventType::PaymentDuplicate => "Money came after the order had been paid; it is refunded.",
        EventType::PaymentWrongAmount => {
            "Less or more money came than was asked for; it is refunded."
        }
        EventType::PaymentWrongCurrency => {
            "Money came in another currency than was asked for; it is refunded."
        }
        EventType::PaymentUnmatched => "A gateway reported money that no payment can hold.",
        EventType::RefundRequested => {
            "A refund was requested, by the merchant or the platform, or taken up again."
        }
        EventType::RefundSubmitted => "It is being sent to the gateway.",
        EventType::RefundProcessing => "The gateway works on it.",
        EventType::RefundFailedRetryable => "It did not work; it is sent again later.",
        EventType::RefundSucceeded => "The money was given back.",
        EventType::RefundNeedsOperator => "It will not work by itself.",
        EventType::RefundWithdrawn => "It was given up; its money can be refunded otherwise.",
        EventType::RefundReopened => {
            "It had succeeded, then the gateway reported that it failed; the gateway is asked again."
        }
        EventType::CouponIssued => "A paid order earned its buyer a coupon.",
        EventType::CouponHeld => "A pending order holds it.",
        EventType::CouponUsed => "A paid order used it.",
        EventType::CouponReturned => "The order that held or used it ended; it can be used again.",
        EventType::CouponExpired => "Its validity ended.",
        EventType::CouponRevoked => "The order that had earned it was refunded in full.",
        EventType::CouponGiven => "It was given to another buyer.",
        EventType::WebhookDisabled => {
            "The platform has switched a webhook off: it failed for 5 days or answered 410."
        }
    }
}

/// Returns the documentation of events, in Markdown: docs/events.md.
pub fn events_markdown() -> String {
    let mut text = String::from(INTRODUCTION);
    text.push_str("| Type | What happened | Data |\n| --- | --- | --- |\n");
    for kind in EventType::ALL {
        let form = Form::of(kind).name();
        let anchor = form.replace(' ', "-");
        let _ = writeln!(
            text,
            "| `{}` | {} | [{form}](#{anchor}) |",
            kind.as_str(),
            meaning(kind)
        );
    }
    text.push_str(
        "\n## Schemas of the data\n\nJSON Schema 2020-12. Later versions may add members.\n",
    );
    for form in Form::ALL {
        let mut name = form.name().to_owned();
        if let Some(first) = name.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let schema = format!("{:#}", form.schema());
        let types = EventType::ALL.into_iter();
        let types = types.filter(|kind| Form::of(*kind) == form);
        let types: Vec<_> = types.map(|kind| format!("`{}`", kind.as_str())).collect();
        let _ = write!(
            text,
            "\n### {name}\n\nThe data of {}.\n\n```json\n{schema}\n```\n",
            types.join(", ")
        );
    }
    text
}

const INTRODUCTION: &str = "# Events

Every change of an order, a payment, a refund or a coupon writes an event in the same transaction. A shop reads its own events
with `GET /v1/events`, or has them sent by webhooks ([http-api.md](http-api.md)). All merchants' events are also on the topic `duetime-order-events` of the broker,
with the type as the tag and the subject as the message group.

An event is a CloudEvent 1.0 in JSON:

| Member | Value |
| --- | --- |
| `specversion` | `1.0` |
| `id` | The id of the event, the same for every repetition: drop an event whose id was handled before. |
| `source` | `/merchants/` and the id of the merchant. |
| `type` | One of the types below. |
| `subject` | The id of the order or coupon it is about. Events of payments and refunds have their order as the subject. |
| `time` | When it happened. |
| `datacontenttype` | `application/json` |
| `data` | What changed, in the form of the API, as it is after the change. |

Events of one subject are delivered in the order of their commits, each at least once. `version` in the data grows with every change
of that thing. Amounts are integers in minor units, times are RFC 3339 with milliseconds. Orders have their lines; `seconds_left` and the
audit trail are only in the API's answers.

## Types

";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_of_events_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/events.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, events_markdown()).unwrap();
            return;
        }
        assert!(
            written == events_markdown(),
            "docs/events.md is out of date; run the tests of `orders` with UPDATE_DOCS=1"
        );
    }

    #[test]
    fn a_cursor_is_digits_alone() {
        assert_eq!(place_of("17").unwrap(), 17);
        for text in ["", "-1", "+1", "1 ", "x", "99999999999999999999"] {
            assert!(place_of(text).is_err(), "{text}");
        }
    }
}
