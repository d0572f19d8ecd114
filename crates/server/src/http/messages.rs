//! Serves messages: send, find, recall, move, deliver now.

use axum::Json;
use axum::extract::State;
use broker::{Delivery, Found, MessageHandle, Place, Recall, Reschedule};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::auth::Known;
use super::content::{Due, MessageBody, NewMessageBody, RecalledBody, SentBody};
use super::extract::{
    Created, MessageJson, Names, Page, StrictJson, StrictQuery, page_limit, place_of_cursor,
    segment,
};
use super::limits::BATCH_MAX;
use super::owned::ForceQuery;
use super::problem::{Problem, ProblemKind, Problems};
use super::refusal::{message_not_found, of_broker, of_delay, too_late};
use edge::instant::{Clocks, Instant, Span};
use edge::object::JsonObject;

/// Messages to send.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewBatch)]
pub(super) struct NewBatchBody {
    /// The messages, 1 to 1,024 of them.
    #[schema(value_type = Vec<NewMessageBody>)]
    messages: Vec<JsonObject<NewMessageBody>>,
}

/// The outcome of one message of a batch: the stored message, or the problem.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BatchItem)]
pub(super) struct BatchItemBody {
    /// The stored message.
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<SentBody>,
    /// Why it was not stored; a problem document.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    problem: Option<Value>,
}

/// The outcome of a batch.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Batch)]
pub(super) struct BatchBody {
    /// One for each message, in the same order.
    items: Vec<BatchItemBody>,
}

/// A new due time.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewDue)]
pub(super) struct NewDueBody {
    /// The due time; an instant in the past means now.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Instant>,
    /// The delay from now: `500ms`, `30s`, `10m`, `2h`, `3d`.
    #[schema(value_type = Option<String>, example = "30m")]
    after: Option<Span>,
}

/// Which messages to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only those with this message id or key, waiting or due; such a list has one page.
    find: Option<String>,
    /// Those due after this instant; by default those that wait.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Instant>,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
    /// The maximum number of messages on the page, 1 to 200; 50 by default. A page also ends after about a megabyte.
    limit: Option<usize>,
}

/// Sends a message. It is stored durably before the answer.
#[utoipa::path(
    post,
    path = "/v1/topics/{topic}/messages",
    tag = "messages",
    params(("topic" = String, Path, description = "The topic")),
    request_body = NewMessageBody,
    responses((status = 201, description = "The message is stored", body = SentBody), Problems)
)]
pub(super) async fn send(
    State(state): State<ApiState>,
    known: Known,
    Names(topic): Names<String>,
    MessageJson(body): MessageJson<NewMessageBody>,
) -> Result<Created<SentBody>, Problem> {
    known.publish(&topic)?;
    let clocks = state.clocks();
    let due = body.due_pointer();
    let message = body.read(clocks)?;
    let message_id = message.message_id.clone();
    let sent = state.broker().send(&topic, message).await;
    let sent = sent.map_err(|error| of_delay(error, due))?;
    let value = SentBody::new(sent, message_id, clocks);
    Ok(Created {
        location: location(&topic, &value.message_id),
        value,
    })
}

/// Sends several messages to one topic. Each has its own outcome; a refused message does not affect the others.
///
/// A batch with a message that cannot be read, because of an unknown field or of an instant that is none, is refused as
/// a whole, as any other body: its producer has a defect, and half of what it means might be stored. `pointer` names
/// the field of the message.
#[utoipa::path(
    post,
    path = "/v1/topics/{topic}/batches",
    tag = "messages",
    params(("topic" = String, Path, description = "The topic")),
    request_body = NewBatchBody,
    responses((status = 200, description = "The outcome of each message", body = BatchBody), Problems)
)]
pub(super) async fn send_batch(
    State(state): State<ApiState>,
    known: Known,
    Names(topic): Names<String>,
    MessageJson(body): MessageJson<NewBatchBody>,
) -> Result<Json<BatchBody>, Problem> {
    known.publish(&topic)?;
    let count = body.messages.len();
    if !(1..=BATCH_MAX).contains(&count) {
        let detail = format!("the batch has {count} messages; 1 to {BATCH_MAX} are allowed");
        return Err(Problem::invalid("/messages", detail));
    }
    let clocks = state.clocks();
    let (mut messages, mut read) = (Vec::new(), Vec::new());
    for JsonObject(body) in body.messages {
        let due = body.due_pointer();
        match body.read(clocks) {
            Ok(message) => {
                read.push(Ok((message.message_id.clone(), due)));
                messages.push(message);
            }
            Err(problem) => read.push(Err(problem)),
        }
    }
    let mut sent = state
        .broker()
        .send_batch(&topic, messages)
        .await
        .map_err(of_broker)?
        .into_iter();
    let items = read.into_iter().enumerate().map(|(index, read)| {
        let result = read.and_then(|(message_id, due)| match sent.next() {
            Some(Ok(sent)) => Ok(SentBody::new(sent, message_id, clocks)),
            Some(Err(error)) => Err(of_delay(error, due)),
            None => Err(Problem::new(
                ProblemKind::Internal,
                "the batch was interrupted",
            )),
        });
        let result = result.map_err(|problem| problem.within(&format!("/messages/{index}")));
        BatchItemBody {
            problem: result.as_ref().err().map(Problem::to_json),
            sent: result.ok(),
        }
    });
    Ok(Json(BatchBody {
        items: items.collect(),
    }))
}

/// Lists messages by due time, or finds them by id or key, without delivering them. For operators.
#[utoipa::path(
    get,
    path = "/v1/topics/{topic}/messages",
    tag = "messages",
    params(("topic" = String, Path, description = "The topic"), ListQuery),
    responses((status = 200, description = "A page of messages", body = Page<MessageBody>), Problems)
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    known: Known,
    Names(topic): Names<String>,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> Result<Json<Page<MessageBody>>, Problem> {
    known.administer()?;
    let clocks = state.clocks();
    let shown = |found: Vec<Found>| {
        found
            .iter()
            .map(|found| MessageBody::of_found(found, clocks))
            .collect()
    };
    if let Some(wanted) = &query.find {
        if query.from.is_some() || query.cursor.is_some() {
            let detail = "find cannot be combined with from or cursor";
            return Err(Problem::parameter("find", detail));
        }
        let limit = page_limit(query.limit)?;
        let mut found = state
            .broker()
            .find(&topic, wanted)
            .await
            .map_err(of_broker)?;
        found.truncate(limit);
        return Ok(Json(Page {
            items: shown(found),
            next_cursor: None,
        }));
    }
    let after = start_of_page(&query, clocks)?;
    let limit = page_limit(query.limit)?;
    let browsed = state
        .broker()
        .browse(&topic, after, limit)
        .await
        .map_err(of_broker)?;
    let last = browsed.found.last().filter(|_| !browsed.complete);
    Ok(Json(Page {
        next_cursor: last.map(|found| found.handle.to_string()),
        items: shown(browsed.found),
    }))
}

fn start_of_page(query: &ListQuery, clocks: Clocks) -> Result<Place, Problem> {
    match (&query.cursor, query.from) {
        (Some(cursor), _) => place_of_cursor(cursor),
        (None, Some(from)) => Ok(before(clocks.engine(from))),
        (None, None) => Ok(Place::end_of(clocks.now_ms)),
    }
}

/// Returns the place before everything due at `due_ms`.
fn before(due_ms: u64) -> Place {
    due_ms.checked_sub(1).map_or(Place::START, Place::end_of)
}

/// Recalls a waiting message by its handle or its id, and reports whether that was in time.
#[utoipa::path(
    delete,
    path = "/v1/topics/{topic}/messages/{message}",
    tag = "messages",
    params(
        ("topic" = String, Path, description = "The topic"),
        ("message" = String, Path, description = "Handle or id of the message"),
        ForceQuery
    ),
    responses(
        (status = 200, description = "It is cancelled, now or earlier", body = RecalledBody),
        (status = 404, description = "The message does not exist", body = super::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It is due: too late", body = super::problem::ProblemBody, content_type = "application/problem+json"),
        Problems
    )
)]
pub(super) async fn recall(
    State(state): State<ApiState>,
    known: Known,
    Names((topic, message)): Names<(String, String)>,
    StrictQuery(query): StrictQuery<ForceQuery>,
) -> Result<Json<RecalledBody>, Problem> {
    known.publish(&topic)?;
    state.settings().owned.check_topic(&topic, query)?;
    let handle = resolve(&state, &topic, &message).await?;
    match state.broker().recall(handle).await.map_err(of_broker)? {
        Recall::Cancelled => Ok(Json(RecalledBody {
            outcome: "cancelled",
        })),
        Recall::TooLate => Err(too_late(&state, handle.place.due_ms)),
        Recall::Unknown => Err(unknown(&topic, &message)),
    }
}

/// Moves a waiting message to another due time, by its handle or its id.
#[utoipa::path(
    put,
    path = "/v1/topics/{topic}/messages/{message}/due",
    tag = "messages",
    params(
        ("topic" = String, Path, description = "The topic"),
        ("message" = String, Path, description = "Handle or id of the message"),
        ForceQuery
    ),
    request_body = NewDueBody,
    responses((status = 200, description = "The moved message; older handles are still valid", body = SentBody), Problems)
)]
pub(super) async fn reschedule(
    State(state): State<ApiState>,
    known: Known,
    Names((topic, message)): Names<(String, String)>,
    StrictQuery(query): StrictQuery<ForceQuery>,
    StrictJson(body): StrictJson<NewDueBody>,
) -> Result<Json<SentBody>, Problem> {
    known.publish(&topic)?;
    state.settings().owned.check_topic(&topic, query)?;
    let (at, after) = (body.at, body.after);
    let due = Due { at, after };
    let pointer = due.pointer();
    let delivery = due.read_needed(state.clocks())?;
    move_to(&state, &topic, &message, (delivery, pointer)).await
}

/// Makes a waiting message due now, by its handle or its id.
#[utoipa::path(
    post,
    path = "/v1/topics/{topic}/messages/{message}/deliver",
    tag = "messages",
    params(
        ("topic" = String, Path, description = "The topic"),
        ("message" = String, Path, description = "Handle or id of the message"),
        ForceQuery
    ),
    responses((status = 200, description = "It is due now", body = SentBody), Problems)
)]
pub(super) async fn deliver(
    State(state): State<ApiState>,
    known: Known,
    Names((topic, message)): Names<(String, String)>,
    StrictQuery(query): StrictQuery<ForceQuery>,
) -> Result<Json<SentBody>, Problem> {
    known.publish(&topic)?;
    state.settings().owned.check_topic(&topic, query)?;
    move_to(&state, &topic, &message, (Delivery::Now, None)).await
}

async fn move_to(
    state: &ApiState,
    topic: &str,
    message: &str,
    (delivery, pointer): (Delivery, Option<&'static str>),
) -> Result<Json<SentBody>, Problem> {
    let handle = resolve(state, topic, message).await?;
    let moved = state.broker().reschedule(handle, delivery).await;
    match moved.map_err(|error| of_delay(error, pointer))? {
        Reschedule::Moved(sent) => {
            // A moved message keeps its id; if a handle was given, the broker looks the id up.
            let message_id = message_id_of(state, topic, message, &sent.handle).await?;
            Ok(Json(SentBody::new(sent, Some(message_id), state.clocks())))
        }
        Reschedule::TooLate => Err(too_late(state, handle.place.due_ms)),
        Reschedule::Unknown => Err(unknown(topic, message)),
    }
}

async fn message_id_of(
    state: &ApiState,
    topic: &str,
    given: &str,
    handle: &MessageHandle,
) -> Result<String, Problem> {
    if given.parse::<MessageHandle>().is_err() {
        return Ok(given.to_owned());
    }
    let before = Place {
        sequence: handle.place.sequence.saturating_sub(1),
        ..handle.place
    };
    let browsed = state
        .broker()
        .browse(topic, before, 1)
        .await
        .map_err(of_broker)?;
    let message = browsed
        .found
        .into_iter()
        .find(|found| found.handle.identity == handle.identity);
    message
        .map(|found| found.message.message_id.clone())
        .ok_or_else(|| unknown(topic, given))
}

/// Returns the handle of a message, from its handle or its id.
async fn resolve(state: &ApiState, topic: &str, text: &str) -> Result<MessageHandle, Problem> {
    if let Ok(handle) = text.parse::<MessageHandle>() {
        if state
            .broker()
            .topic_number(topic)
            .await
            .map_err(of_broker)?
            == handle.topic
        {
            return Ok(handle);
        }
        let detail = format!("the handle is not of a message of topic {topic:?}");
        return Err(message_not_found(detail));
    }
    let now_ms = state.clocks().now_ms;
    let mut found = state.broker().find(topic, text).await.map_err(of_broker)?;
    found.retain(|found| found.message.message_id == text);
    let waiting = found
        .iter()
        .filter(|found| found.message.place.due_ms > now_ms);
    match waiting.count() {
        0 | 1 => found
            .last()
            .map(|found| found.handle)
            .ok_or_else(|| unknown(topic, text)),
        count => {
            let detail = format!(
                "{count} waiting messages of topic {topic:?} have the id {text:?}; use the handle of one"
            );
            Err(Problem::new(ProblemKind::Ambiguous, detail))
        }
    }
}

fn unknown(topic: &str, message: &str) -> Problem {
    let shown: String = message.chars().take(255).collect();
    message_not_found(format!(
        "topic {topic:?} has no message {shown:?}: it was never sent, was cancelled, or was due too long ago"
    ))
}

fn location(topic: &str, message_id: &str) -> String {
    let (topic, message_id) = (segment(topic), segment(message_id));
    format!("/v1/topics/{topic}/messages?find={message_id}")
}
