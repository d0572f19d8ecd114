//! Provides the messages that have not been published to the operator, and lets parked ones be published again.

use std::str::FromStr;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::auth::Operator;
use super::extract::{Page, PathId, StrictJson, StrictQuery, page_limit};
use super::problem::{Problem, Problems};
use crate::ids::MerchantId;
use crate::model::outbox::{OutboxMessage, OutboxState, Topic};
use crate::store::outbox::parked::OutboxPlace;
use edge::instant::{Clocks, Instant};

/// A message that has not been published.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OutboxMessage)]
pub(super) struct MessageBody {
    /// Its number.
    #[schema(example = 117)]
    seq: i64,
    /// Whose it is.
    #[schema(value_type = String, example = "default")]
    merchant_id: MerchantId,
    /// The topic it goes to, as the broker names it.
    #[schema(example = "duetime-order-events")]
    topic: String,
    /// Its id at the broker.
    message_id: String,
    /// The id of what it is about.
    #[schema(example = "ord_01h455vb4pex5vsknk084sn02q")]
    subject: String,
    /// The kind of timer or the type of event.
    #[schema(example = "order.paid")]
    tag: String,
    /// `waiting`, or `parked` if the broker refuses it permanently.
    #[schema(example = "parked")]
    state: &'static str,
    /// When it may be delivered; at once if there is none.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver_at: Option<Instant>,
    /// When it was written.
    #[schema(value_type = String, format = DateTime)]
    created_at: Instant,
    /// When it was parked.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    parked_at: Option<Instant>,
    /// Why the broker refuses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
}

impl MessageBody {
    /// Creates the answer, with the instants of the wall clock.
    fn new(message: OutboxMessage, prefix: &str, clocks: Clocks) -> Self {
        Self {
            seq: message.seq,
            merchant_id: message.merchant_id,
            topic: message.topic.name(prefix),
            message_id: message.message_id,
            subject: message.subject,
            tag: message.tag,
            state: message.state.as_str(),
            deliver_at: message.deliver_at_ms.map(|ms| clocks.shown(ms)),
            created_at: clocks.shown(message.created_ms),
            parked_at: message.parked_ms.map(|ms| clocks.shown(ms)),
            refusal: message.refusal,
        }
    }
}

/// The number of a message in a path.
pub(super) struct Seq(i64);

impl FromStr for Seq {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            let shown: String = text.chars().take(64).collect();
            format!("`{shown}` is not the number of a message; GET /v1/outbox lists them")
        })
    }
}

/// Which messages to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// `parked` if left out.
    #[param(inline)]
    state: Option<StateFilter>,
    /// Only those of this topic, as the broker names it.
    topic: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<usize>,
}

/// The states that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum StateFilter {
    /// Those that are published as soon as the broker takes them.
    Waiting,
    /// Those that the broker refuses permanently.
    Parked,
}

/// Which parked messages to publish again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Unpark)]
pub(super) struct UnparkBody {
    /// Only those of this topic, as the broker names it; all if left out.
    #[schema(example = "duetime-order-events")]
    topic: Option<String>,
}

/// How many parked messages are published again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Unparked)]
pub(super) struct UnparkedBody {
    /// How many.
    #[schema(example = 3)]
    unparked: usize,
}

/// Lists messages that have not been published, by topic, then by age. For the operator.
#[utoipa::path(
    get,
    path = "/v1/outbox",
    tag = "operation",
    params(ListQuery),
    responses((status = 200, description = "A page of messages", body = Page<MessageBody>), Problems)
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    operator: Operator,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> Result<Json<Page<MessageBody>>, Problem> {
    let limit = page_limit(query.limit)?;
    let prefix = &operator.platform.config().prefix;
    let wanted = match query.state {
        Some(StateFilter::Waiting) => OutboxState::Waiting,
        Some(StateFilter::Parked) | None => OutboxState::Parked,
    };
    let unknown = |name| Problem::parameter("topic", no_such_topic(name));
    let topic = topic(query.topic.as_deref(), prefix).map_err(unknown)?;
    let after = query.cursor.as_deref().map(place).transpose()?;
    let found = operator
        .platform
        .outbox(wanted, topic, after, limit)
        .await?;
    let clocks = state.clocks();
    Ok(Json(Page::of(
        found,
        limit,
        |message| cursor(OutboxPlace::of(message)),
        |message| MessageBody::new(message, prefix, clocks),
    )))
}

/// Publishes a parked message again. One that waits goes on waiting. For the operator.
///
/// A message that the broker still refuses is parked again. An event comes after later events of its subject.
#[utoipa::path(
    post,
    path = "/v1/outbox/{seq}/unpark",
    tag = "operation",
    params(("seq" = i64, Path, description = "The message's number")),
    responses((status = 200, description = "The message, which waits now", body = MessageBody), Problems)
)]
pub(super) async fn unpark(
    State(state): State<ApiState>,
    operator: Operator,
    PathId(Seq(seq)): PathId<Seq>,
) -> Result<Json<MessageBody>, Problem> {
    let message = operator.platform.unpark(seq).await?;
    let prefix = &operator.platform.config().prefix;
    Ok(Json(MessageBody::new(message, prefix, state.clocks())))
}

/// Publishes all parked messages again, or those of one topic. For the operator.
#[utoipa::path(
    post,
    path = "/v1/outbox/unpark",
    tag = "operation",
    request_body = UnparkBody,
    responses((status = 200, description = "How many there were", body = UnparkedBody), Problems)
)]
pub(super) async fn unpark_all(
    operator: Operator,
    StrictJson(body): StrictJson<UnparkBody>,
) -> Result<Json<UnparkedBody>, Problem> {
    let prefix = &operator.platform.config().prefix;
    let unknown = |name| Problem::invalid("/topic", no_such_topic(name));
    let topic = topic(body.topic.as_deref(), prefix).map_err(unknown)?;
    let unparked = operator.platform.unpark_all(topic).await?;
    Ok(Json(UnparkedBody { unparked }))
}

/// The topic of a name; the name if the platform has no such topic.
fn topic<'a>(name: Option<&'a str>, prefix: &str) -> Result<Option<Topic>, &'a str> {
    let Some(name) = name else {
        return Ok(None);
    };
    let mut topics = Topic::ALL.into_iter();
    let found = topics.find(|topic| topic.name(prefix) == name);
    found.map(Some).ok_or(name)
}

fn no_such_topic(name: &str) -> String {
    format!("{name:?} is not a topic of the platform")
}

fn cursor(place: OutboxPlace) -> String {
    format!("{}-{}", place.topic, place.seq)
}

fn place(cursor: &str) -> Result<OutboxPlace, Problem> {
    let parts = cursor.split_once('-');
    let place = parts.and_then(|(topic, seq)| {
        let (topic, seq) = (topic.parse().ok()?, seq.parse().ok()?);
        Some(OutboxPlace { topic, seq })
    });
    place.ok_or_else(|| {
        Problem::parameter(
            "cursor",
            "it is not the `next_cursor` of a page of this list",
        )
    })
}
