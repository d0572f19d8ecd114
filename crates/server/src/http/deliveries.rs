//! Serves receiving: the long poll, and the settling of deliveries.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse as _, Response};
use broker::{Delivered, Error, MessageHandle, ReceiptHandle, ReceiveRequest, Refusal, TagFilter};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ApiState;
use super::auth::Known;
use super::content::MessageBody;
use super::extract::{Names, OptionalJson, StrictJson, StrictQuery};
use super::limits::{RECEIPTS_MAX, RECEIVE_MAX, WAIT_MS_MAX};
use super::owned::ForceQuery;
use super::problem::{Problem, ProblemKind, Problems};
use super::refusal::{of_broker, of_delay};
use crate::answers::{AnswerShare, AnswerText};
use crate::metrics::{self, FrontEnd};
use edge::admission::{Place, RETRY_AFTER_S};
use edge::budget::{Connection, Share};
use edge::instant::{Clocks, Span};

/// A receive; an empty body receives one message without waiting.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = Receive)]
pub(super) struct ReceiveBody {
    /// The maximum number of messages, 1 to 256.
    #[schema(default = 1)]
    max: usize,
    /// How long to wait for the first message, at most `60s`.
    #[schema(value_type = String, default = "0s", example = "20s")]
    wait_for: Span,
    /// How long the messages stay hidden from other consumers of the group, at most `12h`.
    #[schema(value_type = String, default = "30s")]
    invisible_for: Span,
    /// Only messages with one of these tags; others count as consumed by the group. All if empty.
    tags: Vec<String>,
    /// In a FIFO group: as many consecutive messages of a message group as there are, and not only the first. They are
    /// to be worked on in their order.
    run: bool,
}

impl Default for ReceiveBody {
    fn default() -> Self {
        Self {
            max: 1,
            wait_for: Span { ms: 0 },
            invisible_for: Span { ms: 30_000 },
            tags: Vec::new(),
            run: false,
        }
    }
}

/// A delivery.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(super) struct DeliveryBody {
    /// The receipt, with which the delivery is acknowledged, handed back or kept longer.
    receipt: String,
    /// 1 for the first delivery.
    attempt: u16,
    /// The message.
    message: MessageBody,
}

/// The received messages.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Received)]
pub(super) struct ReceivedBody {
    /// The deliveries; none if no message was due in time.
    items: Vec<DeliveryBody>,
}

/// Deliveries to acknowledge.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Acknowledge)]
pub(super) struct AckBody {
    /// Their receipts, 1 to 1,024.
    receipts: Vec<String>,
}

/// The outcome of one acknowledgement.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Acknowledged)]
pub(super) struct AckedBody {
    /// The receipt.
    receipt: String,
    /// `acknowledged`, or `expired`: the message was delivered again or settled in the meantime.
    #[schema(example = "acknowledged")]
    outcome: &'static str,
}

/// The outcomes of the acknowledgements.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AcknowledgedList)]
pub(super) struct AckedListBody {
    /// One for each receipt, in the same order.
    items: Vec<AckedBody>,
}

/// A delivery to hand back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Retry)]
pub(super) struct RetryBody {
    /// Its receipt.
    receipt: String,
    /// How long until it is delivered again; by default the group's back-off.
    #[schema(value_type = Option<String>, example = "10s")]
    after: Option<Span>,
}

/// A delivery to keep longer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Hide)]
pub(super) struct HideBody {
    /// Its receipt.
    receipt: String,
    /// How long it stays hidden from now on, at most `12h`.
    #[schema(value_type = String, example = "5m")]
    invisible_for: Span,
}

/// A delivery that cannot be handled.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Bury)]
pub(super) struct BuryBody {
    /// Its receipt.
    receipt: String,
}

/// The outcome.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Settled)]
pub(super) struct SettledBody {
    /// The action.
    #[schema(example = "handed_back")]
    outcome: &'static str,
}

/// Receives messages as a member of a consumer group, and waits for the first one if requested.
///
/// Messages must be acknowledged before `invisible_for` has passed, or they are delivered again.
#[utoipa::path(
    post,
    path = "/v1/topics/{topic}/groups/{group}/receive",
    tag = "deliveries",
    params(
        ("topic" = String, Path, description = "The topic"),
        ("group" = String, Path, description = "The consumer group"),
        ForceQuery
    ),
    request_body = Option<ReceiveBody>,
    responses((status = 200, description = "What came", body = ReceivedBody), Problems)
)]
pub(super) async fn receive(
    State(state): State<ApiState>,
    (known, asker): (Known, Asker),
    Names((topic, group)): Names<(String, String)>,
    StrictQuery(query): StrictQuery<ForceQuery>,
    OptionalJson(body): OptionalJson<ReceiveBody>,
) -> Result<Response, Problem> {
    known.consume(&topic, &group)?;
    state.settings().owned.check_group(&group, query)?;
    if !(1..=RECEIVE_MAX).contains(&body.max) {
        let detail = format!("max is {}; 1 to {RECEIVE_MAX} are allowed", body.max);
        return Err(Problem::invalid("/max", detail));
    }
    if body.wait_for.ms > WAIT_MS_MAX {
        let longest = Span { ms: WAIT_MS_MAX };
        let detail = format!("wait_for is {}; the longest is {longest}", body.wait_for);
        return Err(Problem::invalid("/wait_for", detail));
    }
    let filter = match body.tags {
        tags if tags.is_empty() => TagFilter::All,
        tags => TagFilter::AnyOf(tags),
    };
    let request = ReceiveRequest {
        topic,
        group,
        messages_max: body.max,
        invisible_ms: body.invisible_for.ms,
        filter,
        run: body.run,
    };
    let _wait = asker.wait(&state, body.wait_for)?;
    let share = AnswerShare::new(&state.settings().answers);
    let wait = body.wait_for.duration();
    let delivered = wait_for_messages(&state, &share, request, wait).await?;
    let clocks = state.clocks();
    metrics::lateness(FrontEnd::Http, clocks.now_ms, &delivered);
    let items = delivered.iter().map(|delivery| shown(delivery, clocks));
    let items = items.collect();
    let text = serde_json::to_vec(&ReceivedBody { items })
        .map_err(|error| Problem::internal(error.to_string()))?;
    let body = Body::new(AnswerText::new(text.into(), share));
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

/// Who receives: its place among the requests under way, and its connection.
pub(super) struct Asker {
    place: Option<Place>,
    connection: Option<Arc<Connection>>,
}

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self {
            place: parts.extensions.get().cloned(),
            connection: parts.extensions.get().cloned(),
        })
    }
}

impl Asker {
    /// Lets other requests in while this one waits, and counts it until the returned value is dropped; of one connection
    /// only so many may wait.
    fn wait(&self, state: &ApiState, wait_for: Span) -> Result<Option<Share>, Problem> {
        if wait_for.ms == 0 {
            return Ok(None);
        }
        // Those that wait are limited by the broker.
        if let Some(place) = &self.place {
            place.leave();
        }
        let Some(connection) = &self.connection else {
            return Ok(None);
        };
        let share = connection.wait(state.broker().waiting_pollers_max());
        share.map(Some).ok_or_else(|| {
            let detail = "the connection has as many receives that wait as one connection may have";
            Problem::new(ProblemKind::TooManyPollers, detail).retry_after(RETRY_AFTER_S)
        })
    }
}

/// Receives, until the server stops.
async fn wait_for_messages(
    state: &ApiState,
    share: &Arc<AnswerShare>,
    request: ReceiveRequest,
    wait: Duration,
) -> Result<Vec<Delivered>, Problem> {
    let room: Arc<AnswerShare> = Arc::clone(share);
    let receive = state.broker().receive_into(Some(room), request, wait);
    tokio::select! {
        biased;
        delivered = receive => Ok(delivered.map_err(of_broker)?),
        () = state.stopping() => Ok(Vec::new()),
    }
}

fn shown(delivered: &Delivered, clocks: Clocks) -> DeliveryBody {
    let message = &delivered.message;
    let handle = MessageHandle {
        topic: delivered.handle.topic,
        queue: delivered.queue,
        place: message.place,
        identity: message.identity,
    };
    DeliveryBody {
        receipt: delivered.handle.to_string(),
        attempt: delivered.attempt,
        message: MessageBody::new(message, handle, clocks),
    }
}

/// Acknowledges deliveries. Each has its own outcome.
#[utoipa::path(
    post,
    path = "/v1/topics/{topic}/groups/{group}/ack",
    tag = "deliveries",
    params(
        ("topic" = String, Path, description = "The topic"),
        ("group" = String, Path, description = "The consumer group")
    ),
    request_body = AckBody,
    responses((status = 200, description = "The outcome of each", body = AckedListBody), Problems)
)]
pub(super) async fn ack(
    State(state): State<ApiState>,
    known: Known,
    Names((topic, group)): Names<(String, String)>,
    StrictJson(body): StrictJson<AckBody>,
) -> Result<Json<AckedListBody>, Problem> {
    known.consume(&topic, &group)?;
    let count = body.receipts.len();
    if !(1..=RECEIPTS_MAX).contains(&count) {
        let detail = format!("there are {count} receipts; 1 to {RECEIPTS_MAX} are allowed");
        return Err(Problem::invalid("/receipts", detail));
    }
    let numbers = state
        .broker()
        .numbers(&topic, &group)
        .await
        .map_err(of_broker)?;
    let mut handles = Vec::with_capacity(count);
    for (index, receipt) in body.receipts.iter().enumerate() {
        handles.push(read_receipt(
            receipt,
            numbers,
            &format!("/receipts/{index}"),
        )?);
    }
    let results = state.broker().ack(handles).await.map_err(of_broker)?;
    let mut items = Vec::with_capacity(count);
    for (receipt, result) in body.receipts.into_iter().zip(results) {
        let outcome = match result {
            Ok(()) => "acknowledged",
            Err(Error::Refused(Refusal::Expired)) => "expired",
            Err(error) => return Err(of_broker(error)),
        };
        items.push(AckedBody { receipt, outcome });
    }
    Ok(Json(AckedListBody { items }))
}

/// Hands a delivery back: the message is delivered again later, or becomes a dead letter after its last delivery.
#[utoipa::path(
    post,
    path = "/v1/topics/{topic}/groups/{group}/retry",
    tag = "deliveries",
    params(
        ("topic" = String, Path, description = "The topic"),
        ("group" = String, Path, description = "The consumer group")
    ),
    request_body = RetryBody,
    responses((status = 200, description = "It was handed back", body = SettledBody), Problems)
)]
pub(super) async fn retry(
    State(state): State<ApiState>,
    known: Known,
    Names((topic, group)): Names<(String, String)>,
    StrictJson(body): StrictJson<RetryBody>,
) -> Result<Json<SettledBody>, Problem> {
    let handle = one_receipt(&state, &known, (&topic, &group), &body.receipt).await?;
    let after = body.after.map(Span::duration);
    state
        .broker()
        .retry_later(handle, after)
        .await
        .map_err(|error| of_delay(error, Some("/after")))?;
    Ok(Json(SettledBody {
        outcome: "handed_back",
    }))
}

/// Changes how long a delivery stays hidden; its receipt stays valid.
#[utoipa::path(
    post,
    path = "/v1/topics/{topic}/groups/{group}/hide",
    tag = "deliveries",
    params(
        ("topic" = String, Path, description = "The topic"),
        ("group" = String, Path, description = "The consumer group")
    ),
    request_body = HideBody,
    responses((status = 200, description = "It stays hidden", body = SettledBody), Problems)
)]
pub(super) async fn hide(
    State(state): State<ApiState>,
    known: Known,
    Names((topic, group)): Names<(String, String)>,
    StrictJson(body): StrictJson<HideBody>,
) -> Result<Json<SettledBody>, Problem> {
    let handle = one_receipt(&state, &known, (&topic, &group), &body.receipt).await?;
    let invisible = body.invisible_for.duration();
    state
        .broker()
        .change_invisible(handle, invisible)
        .await
        .map_err(of_broker)?;
    Ok(Json(SettledBody { outcome: "hidden" }))
}

/// Moves a delivery to the dead letters of its group.
#[utoipa::path(
    post,
    path = "/v1/topics/{topic}/groups/{group}/bury",
    operation_id = "bury",
    tag = "deliveries",
    params(
        ("topic" = String, Path, description = "The topic"),
        ("group" = String, Path, description = "The consumer group")
    ),
    request_body = BuryBody,
    responses((status = 200, description = "It is a dead letter", body = SettledBody), Problems)
)]
pub(super) async fn dead_letter(
    State(state): State<ApiState>,
    known: Known,
    Names((topic, group)): Names<(String, String)>,
    StrictJson(body): StrictJson<BuryBody>,
) -> Result<Json<SettledBody>, Problem> {
    let handle = one_receipt(&state, &known, (&topic, &group), &body.receipt).await?;
    state
        .broker()
        .dead_letter(handle)
        .await
        .map_err(of_broker)?;
    Ok(Json(SettledBody { outcome: "buried" }))
}

async fn one_receipt(
    state: &ApiState,
    known: &Known,
    (topic, group): (&str, &str),
    receipt: &str,
) -> Result<ReceiptHandle, Problem> {
    known.consume(topic, group)?;
    let numbers = state
        .broker()
        .numbers(topic, group)
        .await
        .map_err(of_broker)?;
    read_receipt(receipt, numbers, "/receipt")
}

/// Reads a receipt, which must be of the topic and group in the path, since those were authorised.
fn read_receipt(text: &str, numbers: (u32, u32), pointer: &str) -> Result<ReceiptHandle, Problem> {
    let handle: ReceiptHandle = text
        .parse()
        .map_err(|error| Problem::invalid(pointer, format!("the receipt is {error}")))?;
    if (handle.topic, handle.group) == numbers {
        return Ok(handle);
    }
    let detail = "the receipt is of another topic or consumer group than the path";
    Err(Problem::invalid(pointer, detail))
}
