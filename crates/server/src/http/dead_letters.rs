//! Serves dead letters: list, replay and purge by filter.

use axum::Json;
use axum::extract::State;
use broker::{
    DEAD_LETTER_ATTEMPTS_PROPERTY, DEAD_LETTER_PREFIX, DEAD_LETTER_TOPIC_PROPERTY, Error, Found,
    MessageHandle, Place, Refusal,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::auth::Known;
use super::content::MessageBody;
use super::extract::{Names, Page, StrictJson, StrictQuery, page_limit, place_of_cursor};
use super::limits::{LETTERS_PER_READ, LETTERS_PER_REQUEST};
use super::owned::ForceQuery;
use super::problem::{Problem, Problems};
use super::refusal::of_broker;
use edge::instant::Clocks;

/// Which dead letters to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LettersQuery {
    /// Only those with this key.
    key: Option<String>,
    /// Only those with this tag.
    tag: Option<String>,
    /// Only the one with this message id.
    message_id: Option<String>,
    /// Only those that came from this topic.
    topic: Option<String>,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
    /// The maximum number of dead letters on the page, 1 to 200; 50 by default. A page may have fewer and still have a
    /// next one.
    limit: Option<usize>,
}

/// Which dead letters to replay or purge: those that match every given field.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = LetterFilter)]
pub(super) struct FilterBody {
    /// Only those with this key.
    key: Option<String>,
    /// Only those with this tag.
    tag: Option<String>,
    /// Only the one with this message id.
    message_id: Option<String>,
    /// Only those that came from this topic.
    topic: Option<String>,
    /// Selects all of them; required if no other field is given.
    all: bool,
    /// Only counts them.
    dry_run: bool,
}

/// The outcome of a replay or purge.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = LettersDone)]
pub(super) struct DoneBody {
    /// Dead letters that matched.
    matched: u64,
    /// Dead letters that were replayed or purged.
    done: u64,
    /// Dead letters that failed, with the reason; at most ten.
    failed: Vec<FailedBody>,
    /// Whether there may be more: one request reads at most 10,000 dead letters. Repeat it.
    more: bool,
}

/// A dead letter that could not be replayed or purged.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LetterFailed)]
pub(super) struct FailedBody {
    /// Its message id.
    message_id: String,
    /// Why.
    detail: String,
}

/// A dead letter.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Letter)]
pub(super) struct LetterBody {
    /// The topic it came from.
    topic: String,
    /// How often it had been delivered.
    attempts: u16,
    /// The message.
    message: MessageBody,
}

/// Most failed dead letters in one answer.
const FAILED_NAMED_MAX: usize = 10;

/// The conditions on a dead letter.
struct Filter {
    key: Option<String>,
    tag: Option<String>,
    message_id: Option<String>,
    topic: Option<String>,
}

impl Filter {
    fn is_empty(&self) -> bool {
        let parts = [&self.key, &self.tag, &self.message_id, &self.topic];
        parts.into_iter().all(Option::is_none)
    }

    fn matches(&self, found: &Found) -> bool {
        let message = &found.message;
        let is = |wanted: &Option<String>, value: Option<&str>| match wanted {
            Some(wanted) => value == Some(wanted),
            None => true,
        };
        is(&self.tag, message.tag.as_deref())
            && is(&self.message_id, Some(&message.message_id))
            && is(&self.topic, property(found, DEAD_LETTER_TOPIC_PROPERTY))
            && self
                .key
                .as_ref()
                .is_none_or(|wanted| message.keys.contains(wanted))
    }
}

fn property<'a>(found: &'a Found, wanted: &str) -> Option<&'a str> {
    let mut properties = found.message.properties.iter();
    properties
        .find(|(name, _)| name == wanted)
        .map(|(_, value)| value.as_str())
}

impl LetterBody {
    fn new(found: &Found, clocks: Clocks) -> Self {
        let attempts = property(found, DEAD_LETTER_ATTEMPTS_PROPERTY);
        Self {
            topic: property(found, DEAD_LETTER_TOPIC_PROPERTY)
                .unwrap_or_default()
                .to_owned(),
            attempts: attempts.and_then(|text| text.parse().ok()).unwrap_or(0),
            message: MessageBody::of_found(found, clocks),
        }
    }
}

/// A batch of dead letters.
struct Stretch {
    fitting: Vec<Found>,
    /// Where the next batch begins; none at the end.
    next: Option<Place>,
    looked_at: usize,
}

/// Reads the dead letters of a group after the place `after`, about a hundred at a time.
async fn read(
    state: &ApiState,
    group: &str,
    after: Place,
    filter: &Filter,
) -> Result<Stretch, Problem> {
    let topic = format!("{DEAD_LETTER_PREFIX}{group}");
    let browsed = match state.broker().browse(&topic, after, LETTERS_PER_READ).await {
        // The topic is created with the first dead letter; without it, the group must exist.
        Err(Error::Refused(Refusal::TopicNotFound { .. })) => {
            state.broker().group(group).await.map_err(of_broker)?;
            return Ok(Stretch {
                fitting: Vec::new(),
                next: None,
                looked_at: 0,
            });
        }
        browsed => browsed.map_err(of_broker)?,
    };
    let last = browsed.found.last().map(|found| found.message.place);
    Ok(Stretch {
        next: last.filter(|_| !browsed.complete),
        looked_at: browsed.found.len(),
        fitting: browsed
            .found
            .into_iter()
            .filter(|found| filter.matches(found))
            .collect(),
    })
}

/// Lists the dead letters of a consumer group, the oldest first.
#[utoipa::path(
    get,
    path = "/v1/groups/{group}/dead-letters",
    tag = "dead letters",
    params(("group" = String, Path, description = "The consumer group"), LettersQuery),
    responses((status = 200, description = "A page of dead letters", body = Page<LetterBody>), Problems)
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    known: Known,
    Names(group): Names<String>,
    StrictQuery(query): StrictQuery<LettersQuery>,
) -> Result<Json<Page<LetterBody>>, Problem> {
    known.administer()?;
    let limit = page_limit(query.limit)?;
    let mut after = match &query.cursor {
        Some(cursor) => place_of_cursor(cursor)?,
        None => Place::START,
    };
    let filter = Filter {
        key: query.key,
        tag: query.tag,
        message_id: query.message_id,
        topic: query.topic,
    };
    let clocks = state.clocks();
    let (mut items, mut looked_at) = (Vec::new(), 0);
    let mut next_cursor: Option<MessageHandle> = None;
    loop {
        let stretch = read(&state, &group, after, &filter).await?;
        looked_at += stretch.looked_at;
        let room = limit.saturating_sub(items.len());
        let more_fit = stretch.fitting.len() > room;
        for found in stretch.fitting.iter().take(room) {
            items.push(LetterBody::new(found, clocks));
            next_cursor = Some(found.handle);
        }
        let Some(next) = stretch.next.filter(|_| !more_fit) else {
            next_cursor = next_cursor.filter(|_| more_fit);
            break;
        };
        if items.len() >= limit || looked_at >= LETTERS_PER_REQUEST {
            next_cursor = Some(cursor_at(next));
            break;
        }
        after = next;
    }
    Ok(Json(Page {
        items,
        next_cursor: next_cursor.map(|handle| handle.to_string()),
    }))
}

/// Returns the cursor of a place.
fn cursor_at(place: Place) -> MessageHandle {
    MessageHandle {
        topic: 0,
        queue: 0,
        place,
        identity: place.sequence,
    }
}

/// Delivers dead letters to their group again: their deliveries are counted from the start, no other group receives
/// them, and they are no longer dead letters.
#[utoipa::path(
    post,
    path = "/v1/groups/{group}/dead-letters/replay",
    tag = "dead letters",
    params(("group" = String, Path, description = "The consumer group")),
    request_body = FilterBody,
    responses((status = 200, description = "The outcome", body = DoneBody), Problems)
)]
pub(super) async fn replay(
    State(state): State<ApiState>,
    known: Known,
    Names(group): Names<String>,
    StrictJson(body): StrictJson<FilterBody>,
) -> Result<Json<DoneBody>, Problem> {
    known.administer()?;
    // A group that was deleted cannot receive them.
    state.broker().group(&group).await.map_err(of_broker)?;
    act(&state, &group, body, Act::Replay).await
}

/// Deletes dead letters.
#[utoipa::path(
    post,
    path = "/v1/groups/{group}/dead-letters/purge",
    tag = "dead letters",
    params(("group" = String, Path, description = "The consumer group"), ForceQuery),
    request_body = FilterBody,
    responses((status = 200, description = "The outcome", body = DoneBody), Problems)
)]
pub(super) async fn purge(
    State(state): State<ApiState>,
    known: Known,
    Names(group): Names<String>,
    StrictQuery(query): StrictQuery<ForceQuery>,
    StrictJson(body): StrictJson<FilterBody>,
) -> Result<Json<DoneBody>, Problem> {
    known.administer()?;
    if !body.dry_run {
        state.settings().owned.check_group(&group, query)?;
    }
    act(&state, &group, body, Act::Purge).await
}

#[derive(Clone, Copy)]
enum Act {
    Replay,
    Purge,
}

async fn act(
    state: &ApiState,
    group: &str,
    body: FilterBody,
    act: Act,
) -> Result<Json<DoneBody>, Problem> {
    let filter = Filter {
        key: body.key,
        tag: body.tag,
        message_id: body.message_id,
        topic: body.topic,
    };
    if filter.is_empty() != body.all {
        let detail = "give key, tag, message_id or topic, or \"all\": true and none of them";
        return Err(Problem::invalid("/all", detail));
    }
    let mut done = DoneBody::default();
    // Dead letters that fail again meanwhile come after this place, and are not read again.
    let end = Place::end_of(state.clocks().now_ms);
    let (mut after, mut looked_at) = (Place::START, 0);
    loop {
        let mut stretch = read(state, group, after, &filter).await?;
        looked_at += stretch.looked_at;
        stretch.fitting.retain(|found| found.message.place <= end);
        done.matched += stretch.fitting.len() as u64;
        if !body.dry_run {
            settle(state, &stretch.fitting, act, &mut done).await?;
        }
        let Some(next) = stretch.next.filter(|next| *next <= end) else {
            break;
        };
        if looked_at >= LETTERS_PER_REQUEST {
            done.more = true;
            break;
        }
        after = next;
    }
    Ok(Json(done))
}

async fn settle(
    state: &ApiState,
    letters: &[Found],
    act: Act,
    done: &mut DoneBody,
) -> Result<(), Problem> {
    if letters.is_empty() {
        return Ok(());
    }
    let handles = letters.iter().map(|found| found.handle).collect();
    let results = match act {
        Act::Replay => state
            .broker()
            .replay_dead_letters(handles)
            .await
            .map_err(of_broker)?,
        Act::Purge => state
            .broker()
            .purge_dead_letters(handles)
            .await
            .map_err(of_broker)?,
    };
    for (found, result) in letters.iter().zip(results) {
        match result {
            Ok(()) => done.done += 1,
            Err(error) if done.failed.len() < FAILED_NAMED_MAX => done.failed.push(FailedBody {
                message_id: found.message.message_id.clone(),
                detail: error.to_string(),
            }),
            Err(_) => {}
        }
    }
    Ok(())
}
