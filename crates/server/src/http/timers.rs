//! Provides keyed timers over HTTP, for whoever just wants to be reminded.

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
use super::content::{Due, MessageBody, payload};
use super::extract::{MessageJson, Names};
use super::messages::{RecalledBody, too_late};
use super::problem::{Problem, ProblemKind, Problems};
use super::refusal::{message_not_found, of_broker};
use edge::instant::{Instant, Span};

/// Longest key, in bytes, as the broker allows.
const KEY_BYTES_MAX: usize = 255;

/// A timer. One of `at` and `after` says when it is due.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = NewTimer)]
pub(super) struct NewTimerBody {
    /// Due at this instant; one that has passed means now.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Instant>,
    /// Due so long after now: `500ms`, `30s`, `10m`, `2h`, `3d`.
    #[schema(value_type = Option<String>, example = "30m")]
    after: Option<Span>,
    /// What it brings, as text. Without a payload a timer that waits keeps what it has.
    #[schema(example = "close order 42")]
    body: Option<String>,
    /// What it brings, as base64.
    body_base64: Option<String>,
    /// What consumers may filter by; goes with a payload.
    #[schema(max_length = 128)]
    tag: Option<String>,
    /// User properties; go with a payload.
    properties: BTreeMap<String, String>,
    /// The message group, on topics that want one. It cannot be changed while the timer waits.
    #[schema(max_length = 64)]
    message_group: Option<String>,
}

/// A timer that was set.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TimerSet)]
pub(super) struct TimerSetBody {
    /// `created`, or `moved`: one had waited under this key.
    #[schema(example = "created")]
    outcome: &'static str,
    /// When it is due.
    #[schema(value_type = String, format = DateTime)]
    due_at: Instant,
    /// Names its message; one that is moved is still named by older handles.
    handle: String,
}

/// A timer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Timer)]
pub(super) struct TimerBody {
    /// `waiting`, or `due`: its time has come, whether somebody has read it or not.
    #[schema(example = "waiting")]
    state: &'static str,
    /// When it is or was due.
    #[schema(value_type = String, format = DateTime)]
    due_at: Instant,
    /// Its message.
    message: MessageBody,
}

/// Sets a timer: makes it, or moves the one that waits under this key. Both happen in one step: two callers
/// cannot make two timers, and a crash leaves the old one or the new one.
#[utoipa::path(
    put,
    path = "/v1/timers/{topic}/{key}",
    tag = "timers",
    params(
        ("topic" = String, Path, description = "The topic its message comes from"),
        ("key" = String, Path, description = "The key, 1 to 255 bytes")
    ),
    request_body = NewTimerBody,
    responses(
        (status = 200, description = "The timer that waited was moved", body = TimerSetBody),
        (status = 201, description = "The timer was made", body = TimerSetBody),
        Problems
    )
)]
pub(super) async fn set(
    State(state): State<ApiState>,
    known: Known,
    Names((topic, key)): Names<(String, String)>,
    MessageJson(body): MessageJson<NewTimerBody>,
) -> Result<Response, Problem> {
    known.publish(&topic)?;
    let clocks = state.clocks();
    let (at, after) = (body.at, body.after);
    let delivery = Due { at, after }.read_needed(clocks)?;
    let payload = payload(body.body, body.body_base64)?;
    let described = body.tag.is_some() || !body.properties.is_empty();
    if described && payload.is_none() {
        let detail =
            "tag and properties go with a body; send an empty one if the timer brings nothing else";
        return Err(Problem::invalid("/body", detail));
    }
    if key.len() > KEY_BYTES_MAX {
        let detail = format!(
            "the key has {} bytes; the most allowed is {KEY_BYTES_MAX}",
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
        .map_err(of_broker)?;
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

/// Shows a timer: when it is due, or that its time has come.
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

/// Cancels a timer, and tells the truth: cancelled, too late, or unknown.
#[utoipa::path(
    delete,
    path = "/v1/timers/{topic}/{key}",
    tag = "timers",
    params(
        ("topic" = String, Path, description = "The topic its message comes from"),
        ("key" = String, Path, description = "The key")
    ),
    responses(
        (status = 200, description = "It was waiting, and is never delivered to anyone", body = RecalledBody),
        (status = 404, description = "There is no timer under this key", body = super::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Its time has come: too late", body = super::problem::ProblemBody, content_type = "application/problem+json"),
        Problems
    )
)]
pub(super) async fn cancel(
    State(state): State<ApiState>,
    known: Known,
    Names((topic, key)): Names<(String, String)>,
) -> Result<Json<RecalledBody>, Problem> {
    known.publish(&topic)?;
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
