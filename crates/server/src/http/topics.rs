//! Serves topics: create, describe, list, delete, and the histogram of their due times.

use axum::Json;
use axum::extract::State;
use broker::{Bucket, TopicChange, TopicKind, TopicSpec, TopicStats};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::auth::Known;
use super::extract::{
    Created, Deleted, Names, Page, PageQuery, StrictJson, StrictQuery, page_limit, page_of_names,
    segment,
};
use super::groups::PairBody;
use super::owned::ForceQuery;
use super::problem::{Problem, Problems};
use super::refusal::of_broker;
use edge::instant::{Instant, Span};

/// Spans of a histogram by default.
const STEPS_DEFAULT: usize = 24;
/// Most spans of a histogram.
const STEPS_MAX: usize = 512;

/// The kind of messages of a topic.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = TopicKind)]
pub(super) enum KindBody {
    /// Messages that are due at once.
    Normal,
    /// Messages with a message group, delivered in order within it.
    Fifo,
    /// Messages with a due time.
    #[default]
    Delay,
    /// Messages that become visible when their transaction commits.
    Transaction,
    /// All kinds.
    Mixed,
}

impl From<KindBody> for TopicKind {
    fn from(kind: KindBody) -> Self {
        match kind {
            KindBody::Normal => Self::Normal,
            KindBody::Fifo => Self::Fifo,
            KindBody::Delay => Self::Delay,
            KindBody::Transaction => Self::Transaction,
            KindBody::Mixed => Self::Mixed,
        }
    }
}

impl From<TopicKind> for KindBody {
    fn from(kind: TopicKind) -> Self {
        match kind {
            TopicKind::Normal => Self::Normal,
            TopicKind::Fifo => Self::Fifo,
            TopicKind::Delay => Self::Delay,
            TopicKind::Transaction => Self::Transaction,
            TopicKind::Mixed => Self::Mixed,
        }
    }
}

/// A topic to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewTopic)]
pub(super) struct NewTopicBody {
    /// Its name: letters, digits and `_ - % | .`.
    #[schema(example = "orders", max_length = 127)]
    name: String,
    /// Its kind of messages.
    #[serde(default)]
    #[schema(default = "delay")]
    kind: KindBody,
    /// Number of message queues: how many consumers can read in order in parallel.
    #[serde(default = "one")]
    #[schema(default = 1, minimum = 1, maximum = 1024)]
    queues: u16,
    /// Whether messages can be found by key and by an id that their producer chose; keyed timers need it.
    #[serde(default = "yes")]
    #[schema(default = true)]
    indexed: bool,
    /// Bytes the topic may hold, including retained messages; no limit by default.
    quota_bytes: Option<u64>,
}

fn one() -> u16 {
    1
}

fn yes() -> bool {
    true
}

/// Settings of a topic to change; absent ones stay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TopicChange)]
pub(super) struct TopicChangeBody {
    /// Number of message queues. It can only grow, and on FIFO and MIXED topics only while they hold no messages.
    #[schema(minimum = 1, maximum = 1024)]
    queues: Option<u16>,
    /// Whether messages sent from now on can be found by key and by an id that their producer chose. Those that were
    /// indexed when they were sent stay so, also when they are moved.
    indexed: Option<bool>,
    /// Bytes the topic may hold, including retained messages; `null` for no limit.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u64>)]
    quota_bytes: Option<QuotaBody>,
}

/// A quota in bytes; `None` is `null`, for no limit.
#[derive(Clone, Copy, Debug)]
struct QuotaBody(Option<u64>);

/// Reads a member that is present, which may be `null`.
fn present<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<QuotaBody>, D::Error> {
    Option::deserialize(reader).map(|bytes| Some(QuotaBody(bytes)))
}

/// A topic.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Topic)]
pub(super) struct TopicBody {
    /// Its name.
    name: String,
    /// Its kind of messages.
    kind: KindBody,
    /// Number of message queues.
    queues: u16,
    /// Whether messages can be found by key and by an id that their producer chose.
    indexed: bool,
    /// Bytes it may hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    quota_bytes: Option<u64>,
    /// Messages that are not due yet.
    waiting: u64,
    /// True if `waiting` is estimated, because more than 256 messages are due within the present minute, or within a
    /// longer span of messages sent long before; absent if it is exact.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    waiting_estimated: bool,
    /// Messages on disk, waiting and retained.
    messages: u64,
    /// Size of the rows of these messages, in bytes, as they were written: the store compresses them.
    bytes: u64,
    /// Messages whose row was found damaged since the start: they are not delivered. Absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<u64>,
}

impl From<TopicStats> for TopicBody {
    fn from(stats: TopicStats) -> Self {
        Self {
            name: stats.spec.name,
            kind: stats.spec.kind.into(),
            queues: stats.spec.queues,
            indexed: stats.spec.indexed,
            quota_bytes: stats.spec.quota_bytes,
            waiting: stats.waiting,
            waiting_estimated: !stats.waiting_exact,
            messages: stats.messages,
            bytes: stats.bytes,
            damaged: Some(stats.damaged).filter(|count| *count > 0),
        }
    }
}

/// What was deleted with a topic.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LostByTopic)]
pub(super) struct LostBody {
    /// Messages it held, waiting and retained.
    messages: u64,
    /// Those that were not due yet.
    waiting: u64,
}

/// The spans of a histogram.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistogramQuery {
    /// Length of a span; `1h` by default.
    #[param(value_type = Option<String>, example = "1h")]
    step: Option<Span>,
    /// Number of spans, 1 to 512; 24 by default. The last one includes everything later.
    steps: Option<usize>,
}

/// Messages due within a span of time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Bucket)]
pub(super) struct BucketBody {
    /// Where the span begins.
    #[schema(value_type = String, format = DateTime)]
    from: Instant,
    /// Where it ends; absent for the last one, which has no end.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Instant>,
    /// Messages due in it.
    messages: u64,
    /// Absent if the count is exact; else it is estimated from counts of spans of this length.
    #[schema(value_type = Option<String>, example = "1m")]
    #[serde(skip_serializing_if = "Option::is_none")]
    resolution: Option<Span>,
}

/// Messages of a topic by due time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Histogram)]
pub(super) struct HistogramBody {
    /// The spans, in order.
    buckets: Vec<BucketBody>,
}

/// Creates a topic, or confirms that it exists with the same settings.
#[utoipa::path(
    post,
    path = "/v1/topics",
    tag = "topics",
    request_body = NewTopicBody,
    responses((status = 201, description = "The topic exists", body = TopicBody), Problems)
)]
pub(super) async fn create(
    State(state): State<ApiState>,
    known: Known,
    StrictJson(body): StrictJson<NewTopicBody>,
) -> Result<Created<TopicBody>, Problem> {
    known.administer()?;
    let spec = TopicSpec {
        name: body.name.clone(),
        kind: body.kind.into(),
        queues: body.queues,
        indexed: body.indexed,
        quota_bytes: body.quota_bytes,
    };
    state.broker().create_topic(spec).await.map_err(of_broker)?;
    let figures = state
        .broker()
        .topic_stats(&body.name)
        .await
        .map_err(of_broker)?;
    Ok(Created {
        location: format!("/v1/topics/{}", segment(&body.name)),
        value: figures.into(),
    })
}

/// Lists the topics by name.
#[utoipa::path(
    get,
    path = "/v1/topics",
    tag = "topics",
    params(PageQuery),
    responses((status = 200, description = "A page of topics", body = Page<TopicBody>), Problems)
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    known: Known,
    StrictQuery(query): StrictQuery<PageQuery>,
) -> Result<Json<Page<TopicBody>>, Problem> {
    known.administer()?;
    let limit = page_limit(query.limit)?;
    let names = state.broker().topics().await.map_err(of_broker)?;
    let page = page_of_names(names, query.cursor.as_deref(), limit);
    let mut items = Vec::with_capacity(page.items.len());
    for name in &page.items {
        // A topic or group that was deleted since the names were read is skipped.
        if let Ok(stats) = state.broker().topic_stats(name).await {
            items.push(stats.into());
        }
    }
    Ok(Json(Page {
        items,
        next_cursor: page.next_cursor,
    }))
}

/// Describes a topic.
#[utoipa::path(
    get,
    path = "/v1/topics/{topic}",
    tag = "topics",
    params(("topic" = String, Path, description = "The topic")),
    responses((status = 200, description = "The topic", body = TopicBody), Problems)
)]
pub(super) async fn show(
    State(state): State<ApiState>,
    known: Known,
    Names(topic): Names<String>,
) -> Result<Json<TopicBody>, Problem> {
    known.administer()?;
    Ok(Json(
        state
            .broker()
            .topic_stats(&topic)
            .await
            .map_err(of_broker)?
            .into(),
    ))
}

/// Changes settings of a topic. Its messages stay where they are.
#[utoipa::path(
    patch,
    path = "/v1/topics/{topic}",
    tag = "topics",
    params(("topic" = String, Path, description = "The topic"), ForceQuery),
    request_body = TopicChangeBody,
    responses((status = 200, description = "The topic as it is now", body = TopicBody), Problems)
)]
pub(super) async fn change(
    State(state): State<ApiState>,
    known: Known,
    Names(topic): Names<String>,
    StrictQuery(query): StrictQuery<ForceQuery>,
    StrictJson(body): StrictJson<TopicChangeBody>,
) -> Result<Json<TopicBody>, Problem> {
    known.administer()?;
    state.settings().owned.check_topic(&topic, query)?;
    let change = TopicChange {
        queues: body.queues,
        indexed: body.indexed,
        quota_bytes: body.quota_bytes.map(|quota| quota.0),
    };
    let broker = state.broker();
    broker
        .change_topic(&topic, change)
        .await
        .map_err(of_broker)?;
    let changed = broker.topic_stats(&topic).await.map_err(of_broker)?;
    Ok(Json(changed.into()))
}

/// Deletes a topic with its messages. They cannot be restored.
#[utoipa::path(
    delete,
    path = "/v1/topics/{topic}",
    tag = "topics",
    params(("topic" = String, Path, description = "The topic"), ForceQuery),
    responses(
        (status = 200, description = "It is deleted, and with it its messages", body = LostBody),
        (status = 204, description = "It is deleted; it held no messages"),
        Problems
    )
)]
pub(super) async fn delete(
    State(state): State<ApiState>,
    known: Known,
    Names(topic): Names<String>,
    StrictQuery(query): StrictQuery<ForceQuery>,
) -> Result<Deleted<LostBody>, Problem> {
    known.administer()?;
    state.settings().owned.check_topic(&topic, query)?;
    let deleted = state.broker().delete_topic(&topic).await;
    let TopicStats {
        messages, waiting, ..
    } = deleted.map_err(of_broker)?;
    let lost = LostBody { messages, waiting };
    Ok(Deleted(Some(lost).filter(|lost| lost.messages > 0)))
}

/// Shows how many messages of a topic become due in each span of time. The sum is what waits. A step that is finer
/// than what is known of the messages is refused; the problem has the finest `resolution`.
#[utoipa::path(
    get,
    path = "/v1/topics/{topic}/histogram",
    tag = "topics",
    params(("topic" = String, Path, description = "The topic"), HistogramQuery),
    responses((status = 200, description = "The spans, from now on", body = HistogramBody), Problems)
)]
pub(super) async fn histogram(
    State(state): State<ApiState>,
    known: Known,
    Names(topic): Names<String>,
    StrictQuery(query): StrictQuery<HistogramQuery>,
) -> Result<Json<HistogramBody>, Problem> {
    known.administer()?;
    let step = query.step.unwrap_or(Span { ms: 3_600_000 });
    if step.ms == 0 {
        return Err(Problem::parameter("step", "step must be at least 1ms"));
    }
    let steps = query.steps.unwrap_or(STEPS_DEFAULT);
    if !(1..=STEPS_MAX).contains(&steps) {
        let detail = format!("steps is {steps}; 1 to {STEPS_MAX} are allowed");
        return Err(Problem::parameter("steps", detail));
    }
    let buckets = state
        .broker()
        .histogram(&topic, step.duration(), steps)
        .await
        .map_err(of_broker)?;
    let clocks = state.clocks();
    let shown = |bucket: Bucket| BucketBody {
        from: clocks.wall(bucket.from_ms),
        to: (bucket.to_ms != u64::MAX).then(|| clocks.wall(bucket.to_ms)),
        messages: bucket.messages,
        resolution: (bucket.resolution_ms > 0).then_some(Span {
            ms: bucket.resolution_ms,
        }),
    };
    Ok(Json(HistogramBody {
        buckets: buckets.into_iter().map(shown).collect(),
    }))
}

/// Shows the progress of each consumer group on a topic.
#[utoipa::path(
    get,
    path = "/v1/topics/{topic}/groups",
    tag = "topics",
    params(("topic" = String, Path, description = "The topic"), PageQuery),
    responses((status = 200, description = "The groups that have read the topic", body = Page<PairBody>), Problems)
)]
pub(super) async fn groups(
    State(state): State<ApiState>,
    known: Known,
    Names(topic): Names<String>,
    StrictQuery(query): StrictQuery<PageQuery>,
) -> Result<Json<Page<PairBody>>, Problem> {
    known.administer()?;
    let limit = page_limit(query.limit)?;
    let names = state.broker().groups_of(&topic).await.map_err(of_broker)?;
    let page = page_of_names(names, query.cursor.as_deref(), limit);
    let clocks = state.clocks();
    let mut items = Vec::with_capacity(page.items.len());
    for group in &page.items {
        // A topic or group that was deleted since the names were read is skipped.
        if let Ok(figures) = state.broker().group_stats(&topic, group).await {
            items.push(PairBody::new(&topic, &figures, clocks));
        }
    }
    Ok(Json(Page {
        items,
        next_cursor: page.next_cursor,
    }))
}
