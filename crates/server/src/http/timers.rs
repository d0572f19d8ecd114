//! Serves keyed timers.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use broker::{Timer, TimerContent};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ApiState;
use super::auth::Known;
use super::content::{Due, MessageBody, RecalledBody, check_given, payload};
use super::extract::{MessageJson, Names, StrictQuery};
use super::owned::ForceQuery;
use super::problem::{Problem, ProblemKind, Problems};
use super::refusal::{message_not_found, of_broker, of_delay, too_late};
use edge::instant::{Instant, Span};

/// Longest key, in bytes, as the broker allows.
const KEY_BYTES_MAX: usize = 255;

/// A timer. One of `at` and `after` sets its due time.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = NewTimer)]
pub(super) struct NewTimerBody {
    /// The due time; an instant in the past means now.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Instant>,
    /// The delay from now: `500ms`, `30s`, `10m`, `2h`, `3d`.
    #[schema(value_type = Option<String>, example = "30m")]
    after: Option<Span>,
    /// The payload as text. Without a payload a waiting timer keeps the one it has.
    #[schema(example = "close order 42")]
    body: Option<String>,
    /// The payload as base64.
    body_base64: Option<String>,
    /// The tag, by which consumers may filter; requires a payload.
    #[schema(max_length = 16_384)]
    tag: Option<String>,
    /// User properties; require a payload.
    properties: BTreeMap<String, String>,
    /// The message group, on topics that require one. It cannot be changed while the timer waits.
    #[schema(max_length = 64)]
    message_group: Option<String>,
}

/// A timer that was set.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TimerSet)]
pub(super) struct TimerSetBody {
    /// `created`, or `moved` if one was waiting under this key.
    #[schema(example = "created")]
    outcome: &'static str,
    /// When it is due.
    #[schema(value_type = String, format = DateTime)]
    due_at: Instant,
    /// The handle of its message; older handles of a moved timer stay valid.
    handle: String,
}

/// A timer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Timer)]
pub(super) struct TimerBody {
    /// `waiting`, or `due` from its due time on, whether it has been delivered or not.
    #[schema(example = "waiting")]
    state: &'static str,
    /// When it is or was due.
    #[schema(value_type = String, format = DateTime)]
    due_at: Instant,
    /// Its message.
    message: MessageBody,
}

/// Sets a timer: creates it, or moves the one that waits under this key. The operation is atomic: two callers
/// cannot create two timers, and a crash leaves the old one or the new one.
#[utoipa::path(
    put,
    path = "/v1/timers/{topic}/{key}",
    tag = "timers",
    params(
        ("topic" = String, Path, description = "The topic its message comes from"),
        ("key" = String, Path, description = "The key, 1 to 255 bytes"),
        ForceQuery
    ),
    request_body = NewTimerBody,
    responses(
        (status = 200, description = "The waiting timer is moved", body = TimerSetBody),
        (status = 201, description = "The timer is created", body = TimerSetBody),
        Problems
    )
)]
pub(super) async fn set(
    State(state): State<ApiState>,
    known: Known,
    Names((topic, key)): Names<(String, String)>,
    StrictQuery(query): StrictQuery<ForceQuery>,
    MessageJson(body): MessageJson<NewTimerBody>,
) -> Result<Response, Problem> {
    known.publish(&topic)?;
    let clocks = state.clocks();
    state.settings().owned.check_topic(&topic, query)?;
    check_given("/tag", body.tag.as_deref())?;
    check_given("/message_group", body.message_group.as_deref())?;
    let (at, after) = (body.at, body.after);
    let due = Due { at, after };
    let pointer = due.pointer();
    let delivery = due.read_needed(clocks)?;
    let payload = payload(body.body, body.body_base64)?;
    let described = body.tag.is_some() || !body.properties.is_empty();
    if described && payload.is_none() {
        let detail = "tag and properties require a body; send an empty one if the timer has no other payload";
        return Err(Problem::invalid("/body", detail));
    }
    if key.len() > KEY_BYTES_MAX {
        let detail = format!(
            "the key has {} bytes; at most {KEY_BYTES_MAX} are allowed",
            key.len()
        );
        return Err(Problem::parameter("key", detail));
    }
    let content = TimerContent {
        body: payload,
        tag: body.tag,
        properties: body.properties.into_iter().collect(),
        message_group: body.message_group,
    };
    let set = state
        .broker()
        .set_timer(&topic, &key, delivery, content)
        .await
        .map_err(|error| of_delay(error, pointer))?;
    let (status, outcome) = if set.created {
        (StatusCode::CREATED, "created")
    } else {
        (StatusCode::OK, "moved")
    };
    let body = TimerSetBody {
        outcome,
        due_at: clocks.wall(set.sent.due_ms()),
        handle: set.sent.handle.to_string(),
    };
    Ok((status, Json(body)).into_response())
}

/// Shows a timer and its due time.
#[utoipa::path(
    get,
    path = "/v1/timers/{topic}/{key}",
    tag = "timers",
    params(
        ("topic" = String, Path, description = "The topic its message comes from"),
        ("key" = String, Path, description = "The key")
    ),
    responses((status = 200, description = "The timer", body = TimerBody), Problems)
)]
pub(super) async fn show(
    State(state): State<ApiState>,
    known: Known,
    Names((topic, key)): Names<(String, String)>,
) -> Result<Json<TimerBody>, Problem> {
    known.publish(&topic)?;
    let clocks = state.clocks();
    let (name, found) = match state
        .broker()
        .timer(&topic, &key)
        .await
        .map_err(of_broker)?
    {
        Timer::Waiting(found) => ("waiting", found),
        Timer::Due(found) => ("due", found),
        Timer::Unknown => return Err(unknown(&topic, &key)),
    };
    Ok(Json(TimerBody {
        state: name,
        due_at: clocks.wall(found.message.place.due_ms),
        message: MessageBody::of_found(&found, clocks),
    }))
}

/// Cancels a timer, and reports the outcome: cancelled, too late, or unknown.
#[utoipa::path(
    delete,
    path = "/v1/timers/{topic}/{key}",
    tag = "timers",
    params(
        ("topic" = String, Path, description = "The topic its message comes from"),
        ("key" = String, Path, description = "The key"),
        ForceQuery
    ),
    responses(
        (status = 200, description = "It is cancelled, and never delivered", body = RecalledBody),
        (status = 404, description = "No timer has this key", body = super::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It is due: too late", body = super::problem::ProblemBody, content_type = "application/problem+json"),
        Problems
    )
)]
pub(super) async fn cancel(
    State(state): State<ApiState>,
    known: Known,
    Names((topic, key)): Names<(String, String)>,
    StrictQuery(query): StrictQuery<ForceQuery>,
) -> Result<Json<RecalledBody>, Problem> {
    known.publish(&topic)?;
    state.settings().owned.check_topic(&topic, query)?;
    match state
        .broker()
        .cancel_timer(&topic, &key)
        .await
        .map_err(of_broker)?
    {
        broker::Recall::Cancelled => Ok(Json(RecalledBody {
            outcome: "cancelled",
        })),
        broker::Recall::Unknown => Err(unknown(&topic, &key)),
        broker::Recall::TooLate => {
            match state
                .broker()
                .timer(&topic, &key)
                .await
                .map_err(of_broker)?
            {
                Timer::Due(found) | Timer::Waiting(found) => {
                    Err(too_late(&state, found.message.place.due_ms))
                }
                Timer::Unknown => Err(Problem::new(ProblemKind::TooLate, "the timer was due")
                    .with("outcome", "too_late")),
            }
        }
    }
}

fn unknown(topic: &str, key: &str) -> Problem {
    let shown: String = key.chars().take(255).collect();
    message_not_found(format!(
        "topic {topic:?} has no timer {shown:?}: it was never set, was cancelled, or was due too long ago"
    ))
}
