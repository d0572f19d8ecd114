//! Serves consumer groups: create, describe, list, delete, and reset to an instant.

use axum::Json;
use axum::extract::State;
use broker::{GroupChange, GroupSpec, GroupStats, Skipped, StartFrom};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ApiState;
use super::auth::Known;
use super::extract::{
    Created, Deleted, Names, Page, PageQuery, StrictJson, StrictQuery, page_limit, page_of_names,
    segment,
};
use super::owned::ForceQuery;
use super::problem::{Problem, Problems};
use super::refusal::of_broker;
use edge::instant::{Clocks, Instant, Span};

/// Where a new group begins to read.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = StartFrom)]
pub(super) enum StartBody {
    /// At the oldest message that is kept.
    #[default]
    Earliest,
    /// With messages that become due after the group first asks.
    Latest,
}

impl From<StartBody> for StartFrom {
    fn from(start: StartBody) -> Self {
        match start {
            StartBody::Earliest => Self::Earliest,
            StartBody::Latest => Self::Latest,
        }
    }
}

impl From<StartFrom> for StartBody {
    fn from(start: StartFrom) -> Self {
        match start {
            StartFrom::Earliest => Self::Earliest,
            StartFrom::Latest => Self::Latest,
        }
    }
}

/// A consumer group to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewGroup)]
pub(super) struct NewGroupBody {
    /// Its name: letters, digits and `_ - % | .`.
    #[schema(example = "closer", max_length = 120)]
    name: String,
    /// Whether messages of one message group are delivered one at a time, in order.
    #[serde(default)]
    fifo: bool,
    /// Deliveries after which a message becomes a dead letter; 17 by default.
    attempts_max: Option<u16>,
    /// Waits before the second delivery, the third and so on; the last one repeats. From 10 s to 2 h by default.
    #[schema(value_type = Option<Vec<String>>, example = json!(["10s", "30s", "1m"]))]
    backoff: Option<Vec<Span>>,
    /// Where it begins to read.
    #[serde(default)]
    #[schema(default = "earliest")]
    start_from: StartBody,
}

/// Settings of a consumer group to change; absent ones stay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GroupChange)]
pub(super) struct GroupChangeBody {
    /// Whether messages of one message group are delivered one at a time, in order. It can be changed while the
    /// group has no message in flight and none to be delivered again.
    fifo: Option<bool>,
    /// Deliveries after which a message becomes a dead letter.
    attempts_max: Option<u16>,
    /// Waits before the second delivery, the third and so on; the last one repeats.
    #[schema(value_type = Option<Vec<String>>, example = json!(["10s", "30s", "1m"]))]
    backoff: Option<Vec<Span>>,
}

/// A consumer group.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Group)]
pub(super) struct GroupBody {
    /// Its name.
    name: String,
    /// Whether messages of one message group are delivered one at a time, in order.
    fifo: bool,
    /// Deliveries after which a message becomes a dead letter.
    attempts_max: u16,
    /// Waits before the second delivery, the third and so on; the last one repeats.
    #[schema(value_type = Vec<String>, example = json!(["10s", "30s", "1m"]))]
    backoff: Vec<Span>,
    /// Where it began to read.
    start_from: StartBody,
    /// When one of its consumers was last active; to the hour after a restart.
    #[schema(value_type = String, format = DateTime)]
    last_seen_at: Instant,
    /// The topics it has read.
    topics: Vec<String>,
}

/// The progress of a consumer group on a topic.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GroupOnTopic)]
pub(super) struct PairBody {
    /// The topic.
    topic: String,
    /// The group.
    group: String,
    /// Messages due and not yet delivered, including those of a FIFO group that wait for an earlier one.
    ready: u64,
    /// True if `ready` is estimated, because they are more than some hundreds; absent if it is exact.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ready_estimated: bool,
    /// Messages that are with a consumer.
    in_flight: u64,
    /// Messages that failed, or were handed back, and are delivered again, including those with a consumer.
    retrying: u64,
    /// Dead letters of the group, from all its topics.
    dead_letters: u64,
    /// Everything due up to this instant is settled, in every queue; absent until the group reads.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    done_to: Option<Instant>,
}

impl PairBody {
    /// Creates the answer for a group on a topic.
    pub(super) fn new(topic: &str, stats: &GroupStats, clocks: Clocks) -> Self {
        let done_ms = stats.acked_ms.iter().copied().min();
        Self {
            topic: topic.to_owned(),
            group: stats.spec.name.clone(),
            ready: stats.ready,
            ready_estimated: !stats.ready_exact,
            in_flight: stats.in_flight,
            retrying: stats.retrying,
            dead_letters: stats.dead_letters,
            done_to: done_ms.filter(|ms| *ms > 0).map(|ms| clocks.wall(ms)),
        }
    }
}

/// What a group has not finished and no longer receives.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LostByGroup)]
pub(super) struct LostBody {
    /// Messages that were due and not yet delivered, or with a consumer.
    messages: u64,
    /// Messages that had failed and were to be delivered again.
    retrying: u64,
}

impl LostBody {
    /// Creates the answer to a deletion.
    fn deleted(skipped: Skipped) -> Deleted<Self> {
        let Skipped { messages, retrying } = skipped;
        Deleted((messages + retrying > 0).then_some(Self { messages, retrying }))
    }
}

/// The outcome of a reset.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ResetDone)]
pub(super) struct ResetDoneBody {
    /// The progress of the group; with `dry_run` the one it has.
    #[serde(flatten)]
    progress: PairBody,
    /// Messages that the group had not finished and that it does not receive: they are due before the instant, and were
    /// not yet delivered, or with a consumer. Those that only become due later are included.
    skipped: u64,
    /// Messages that had failed and were to be delivered again. Those due from the instant on come again as new ones.
    retries_dropped: u64,
}

/// The new position of a group.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Reset)]
pub(super) struct ResetBody {
    /// Messages due from this instant on are delivered again; earlier ones are not.
    #[schema(value_type = String, format = DateTime)]
    to: Instant,
    /// Only counts what would be skipped.
    #[serde(default)]
    dry_run: bool,
}

/// Creates a consumer group, or confirms that it exists with the same settings.
#[utoipa::path(
    post,
    path = "/v1/groups",
    tag = "groups",
    request_body = NewGroupBody,
    responses((status = 201, description = "The group exists", body = GroupBody), Problems)
)]
pub(super) async fn create(
    State(state): State<ApiState>,
    known: Known,
    StrictJson(body): StrictJson<NewGroupBody>,
) -> Result<Created<GroupBody>, Problem> {
    known.administer()?;
    let usual = GroupSpec::new(&body.name);
    let backoff = body
        .backoff
        .map(|steps| steps.iter().map(|step| step.ms).collect());
    let spec = GroupSpec {
        fifo: body.fifo,
        attempts_max: body.attempts_max.unwrap_or(usual.attempts_max),
        backoff_ms: backoff.unwrap_or_else(|| usual.backoff_ms.clone()),
        start_from: body.start_from.into(),
        ..usual
    };
    state.broker().create_group(spec).await.map_err(of_broker)?;
    Ok(Created {
        location: format!("/v1/groups/{}", segment(&body.name)),
        value: describe(&state, &body.name).await?,
    })
}

/// Lists the consumer groups by name.
#[utoipa::path(
    get,
    path = "/v1/groups",
    tag = "groups",
    params(PageQuery),
    responses((status = 200, description = "A page of groups", body = Page<GroupBody>), Problems)
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    known: Known,
    StrictQuery(query): StrictQuery<PageQuery>,
) -> Result<Json<Page<GroupBody>>, Problem> {
    known.administer()?;
    let limit = page_limit(query.limit)?;
    let names = state.broker().groups().await.map_err(of_broker)?;
    let page = page_of_names(names, query.cursor.as_deref(), limit);
    let mut items = Vec::with_capacity(page.items.len());
    for name in &page.items {
        // A group that was deleted since the names were read is skipped.
        items.extend(describe(&state, name).await.ok());
    }
    Ok(Json(Page {
        items,
        next_cursor: page.next_cursor,
    }))
}

/// Describes a consumer group.
#[utoipa::path(
    get,
    path = "/v1/groups/{group}",
    tag = "groups",
    params(("group" = String, Path, description = "The consumer group")),
    responses((status = 200, description = "The group", body = GroupBody), Problems)
)]
pub(super) async fn show(
    State(state): State<ApiState>,
    known: Known,
    Names(group): Names<String>,
) -> Result<Json<GroupBody>, Problem> {
    known.administer()?;
    Ok(Json(describe(&state, &group).await?))
}

/// Changes settings of a consumer group. Its positions are kept; attempts and waits hold for deliveries that fail from
/// now on.
#[utoipa::path(
    patch,
    path = "/v1/groups/{group}",
    tag = "groups",
    params(("group" = String, Path, description = "The consumer group"), ForceQuery),
    request_body = GroupChangeBody,
    responses((status = 200, description = "The group as it is now", body = GroupBody), Problems)
)]
pub(super) async fn change(
    State(state): State<ApiState>,
    known: Known,
    Names(group): Names<String>,
    StrictQuery(query): StrictQuery<ForceQuery>,
    StrictJson(body): StrictJson<GroupChangeBody>,
) -> Result<Json<GroupBody>, Problem> {
    known.administer()?;
    state.settings().owned.check_group(&group, query)?;
    let backoff = body
        .backoff
        .map(|steps| steps.iter().map(|step| step.ms).collect());
    let change = GroupChange {
        attempts_max: body.attempts_max,
        backoff_ms: backoff,
        fifo: body.fifo,
    };
    state
        .broker()
        .change_group(&group, change)
        .await
        .map_err(of_broker)?;
    Ok(Json(describe(&state, &group).await?))
}

/// Deletes a consumer group with its positions and retries. Its dead letters stay.
#[utoipa::path(
    delete,
    path = "/v1/groups/{group}",
    tag = "groups",
    params(("group" = String, Path, description = "The consumer group"), ForceQuery),
    responses(
        (status = 200, description = "It is deleted, and with it what it had not finished", body = LostBody),
        (status = 204, description = "It is deleted; it had finished everything"),
        Problems
    )
)]
pub(super) async fn delete(
    State(state): State<ApiState>,
    known: Known,
    Names(group): Names<String>,
    StrictQuery(query): StrictQuery<ForceQuery>,
) -> Result<Deleted<LostBody>, Problem> {
    known.administer()?;
    state.settings().owned.check_group(&group, query)?;
    let skipped = state.broker().delete_group(&group).await;
    skipped.map(LostBody::deleted).map_err(of_broker)
}

/// Shows the progress of a consumer group on a topic.
#[utoipa::path(
    get,
    path = "/v1/topics/{topic}/groups/{group}",
    tag = "groups",
    params(
        ("topic" = String, Path, description = "The topic"),
        ("group" = String, Path, description = "The consumer group")
    ),
    responses((status = 200, description = "The progress of the group", body = PairBody), Problems)
)]
pub(super) async fn show_pair(
    State(state): State<ApiState>,
    known: Known,
    Names((topic, group)): Names<(String, String)>,
) -> Result<Json<PairBody>, Problem> {
    known.administer()?;
    let figures = state
        .broker()
        .group_stats(&topic, &group)
        .await
        .map_err(of_broker)?;
    Ok(Json(PairBody::new(&topic, &figures, state.clocks())))
}

/// Lets a consumer group no longer read a topic: its position and its retries there are dropped. Its other topics and
/// its dead letters stay. A later receive begins anew.
#[utoipa::path(
    delete,
    path = "/v1/topics/{topic}/groups/{group}",
    tag = "groups",
    params(
        ("topic" = String, Path, description = "The topic"),
        ("group" = String, Path, description = "The consumer group"),
        ForceQuery
    ),
    responses(
        (status = 200, description = "It no longer reads the topic, and had not finished these", body = LostBody),
        (status = 204, description = "It no longer reads the topic; it had finished everything"),
        Problems
    )
)]
pub(super) async fn unsubscribe(
    State(state): State<ApiState>,
    known: Known,
    Names((topic, group)): Names<(String, String)>,
    StrictQuery(query): StrictQuery<ForceQuery>,
) -> Result<Deleted<LostBody>, Problem> {
    known.administer()?;
    state.settings().owned.check_group(&group, query)?;
    let skipped = state.broker().unsubscribe(&topic, &group).await;
    skipped.map(LostBody::deleted).map_err(of_broker)
}

/// Moves a consumer group on a topic to an instant. Its retries there are dropped, and earlier
/// receipts are void. The answer says how many messages are skipped that way.
#[utoipa::path(
    post,
    path = "/v1/topics/{topic}/groups/{group}/reset",
    tag = "groups",
    params(
        ("topic" = String, Path, description = "The topic"),
        ("group" = String, Path, description = "The consumer group"),
        ForceQuery
    ),
    request_body = ResetBody,
    responses((status = 200, description = "The new progress of the group", body = ResetDoneBody), Problems)
)]
pub(super) async fn reset(
    State(state): State<ApiState>,
    known: Known,
    Names((topic, group)): Names<(String, String)>,
    StrictQuery(query): StrictQuery<ForceQuery>,
    StrictJson(body): StrictJson<ResetBody>,
) -> Result<Json<ResetDoneBody>, Problem> {
    known.administer()?;
    let (broker, clocks) = (state.broker(), state.clocks());
    let to_ms = clocks.engine(body.to);
    let skipped = if body.dry_run {
        broker.skipped_by_reset(&topic, &group, to_ms).await
    } else {
        state.settings().owned.check_group(&group, query)?;
        broker.reset_group(&topic, &group, to_ms).await
    };
    let skipped = skipped.map_err(of_broker)?;
    let progress = broker.group_stats(&topic, &group).await;
    Ok(Json(ResetDoneBody {
        progress: PairBody::new(&topic, &progress.map_err(of_broker)?, clocks),
        skipped: skipped.messages,
        retries_dropped: skipped.retrying,
    }))
}

async fn describe(state: &ApiState, group: &str) -> Result<GroupBody, Problem> {
    let (spec, last_seen_ms) = state.broker().group(group).await.map_err(of_broker)?;
    let topics = state.broker().topics_of(group).await.map_err(of_broker)?;
    Ok(GroupBody {
        name: spec.name,
        fifo: spec.fifo,
        attempts_max: spec.attempts_max,
        backoff: spec.backoff_ms.into_iter().map(|ms| Span { ms }).collect(),
        start_from: spec.start_from.into(),
        last_seen_at: state.clocks().wall(last_seen_ms),
        topics,
    })
}
