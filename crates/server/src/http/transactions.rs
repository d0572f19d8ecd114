//! Serves transactions that were given up: list, look at, commit, roll back, check again.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use broker::{OpenTransaction, Outcome, TransactionHandle};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::auth::Known;
use super::extract::{Names, Page, StrictQuery, page_limit};
use super::problem::{Problem, ProblemKind, Problems};
use super::refusal::of_broker;
use edge::instant::{Clocks, Instant};

/// Which transactions to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only those of this topic.
    topic: Option<String>,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
    /// The maximum number of transactions on the page, 1 to 200; 50 by default. A page also ends after about a megabyte,
    /// and may have fewer and still have a next one.
    limit: Option<usize>,
}

/// The half message of a transaction.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HalfMessage)]
pub(super) struct HalfBody {
    /// Its id.
    message_id: String,
    /// When it is due after a commit; at once if that has passed.
    #[schema(value_type = String, format = DateTime)]
    due_at: Instant,
    /// When it was stored.
    #[schema(value_type = String, format = DateTime)]
    stored_at: Instant,
    /// The tag, by which consumers may filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    /// Keys by which it can be found after a commit.
    keys: Vec<String>,
    /// User properties.
    properties: BTreeMap<String, String>,
    /// The payload, if it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// The payload as base64, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

/// A transaction that has not ended.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transaction)]
pub(super) struct TransactionBody {
    /// Names it.
    transaction: String,
    /// The topic; in a namespace with the namespace before it.
    topic: String,
    /// `given_up`, or `open` while its producer is asked.
    #[schema(example = "given_up")]
    state: &'static str,
    /// How often its producer was asked.
    checks: u32,
    /// When its producer is asked next; absent if it was given up.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    check_at: Option<Instant>,
    /// When it was given up.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    given_up_at: Option<Instant>,
    /// The half message, which no consumer receives before a commit.
    message: HalfBody,
}

impl TransactionBody {
    fn new(opened: &OpenTransaction, clocks: Clocks) -> Self {
        let message = &opened.message;
        let (body, body_base64) = match std::str::from_utf8(&message.body) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(STANDARD.encode(&message.body))),
        };
        Self {
            transaction: opened.transaction.to_string(),
            topic: opened.topic.clone(),
            state: match opened.given_up_ms {
                Some(_) => "given_up",
                None => "open",
            },
            checks: opened.checks,
            check_at: opened.check_ms.map(|ms| clocks.wall(ms)),
            given_up_at: opened.given_up_ms.map(|ms| clocks.wall(ms)),
            message: HalfBody {
                message_id: message.message_id.clone(),
                due_at: clocks.wall(message.place.due_ms),
                stored_at: clocks.wall(message.stored_ms),
                tag: message.tag.clone(),
                keys: message.keys.clone(),
                properties: message.properties.iter().cloned().collect(),
                body,
                body_base64,
            },
        }
    }
}

/// How a transaction ended.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TransactionEnd)]
pub(super) struct EndBody {
    /// `committed` or `rolled_back`.
    #[schema(example = "committed")]
    outcome: &'static str,
    /// The handle of the message that was committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    handle: Option<String>,
    /// When the message that was committed is due.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<Instant>,
}

/// Lists transactions that were given up, by topic, then by age. For operators, and for producers of `topic`.
#[utoipa::path(
    get,
    path = "/v1/transactions",
    tag = "transactions",
    params(ListQuery),
    responses((status = 200, description = "A page of transactions", body = Page<TransactionBody>), Problems)
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    known: Known,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> Result<Json<Page<TransactionBody>>, Problem> {
    match &query.topic {
        Some(topic) if known.administer().is_err() => known.publish(topic)?,
        Some(_) => {}
        None => known.administer()?,
    }
    let limit = page_limit(query.limit)?;
    let unknown = |_| {
        let detail = "cursor is not valid; pass next_cursor unchanged";
        Problem::parameter("cursor", detail)
    };
    let cursor = query.cursor.as_deref().map(str::parse).transpose();
    let page = state
        .broker()
        .given_up(query.topic, cursor.map_err(unknown)?, limit)
        .await
        .map_err(of_broker)?;
    let clocks = state.clocks();
    let items = page.found.iter();
    Ok(Json(Page {
        items: items
            .map(|opened| TransactionBody::new(opened, clocks))
            .collect(),
        next_cursor: page.next.map(|transaction| transaction.to_string()),
    }))
}

/// Shows a transaction that has not ended. For operators, and for producers of its topic.
#[utoipa::path(
    get,
    path = "/v1/transactions/{transaction}",
    tag = "transactions",
    params(("transaction" = String, Path, description = "The transaction")),
    responses((status = 200, description = "The transaction", body = TransactionBody), Problems)
)]
pub(super) async fn show(
    State(state): State<ApiState>,
    known: Known,
    Names(transaction): Names<String>,
) -> Result<Json<TransactionBody>, Problem> {
    let handle = find(&state, &known, &transaction).await?;
    let opened = state.broker().open_transaction(handle).await;
    let opened = opened.map_err(of_broker)?;
    Ok(Json(TransactionBody::new(&opened, state.clocks())))
}

/// Commits a transaction that has not ended, as its producer would: its message is delivered when it is due, or at once
/// if that has passed. A repeated commit gets the same answer.
#[utoipa::path(
    post,
    path = "/v1/transactions/{transaction}/commit",
    tag = "transactions",
    params(("transaction" = String, Path, description = "The transaction")),
    responses((status = 200, description = "It is committed", body = EndBody), Problems)
)]
pub(super) async fn commit(
    State(state): State<ApiState>,
    known: Known,
    Names(transaction): Names<String>,
) -> Result<Json<EndBody>, Problem> {
    end(&state, &known, &transaction, true).await
}

/// Rolls a transaction back that has not ended: its message is deleted. A repeated rollback gets the same answer.
#[utoipa::path(
    post,
    path = "/v1/transactions/{transaction}/rollback",
    tag = "transactions",
    params(("transaction" = String, Path, description = "The transaction")),
    responses((status = 200, description = "It is rolled back", body = EndBody), Problems)
)]
pub(super) async fn rollback(
    State(state): State<ApiState>,
    known: Known,
    Names(transaction): Names<String>,
) -> Result<Json<EndBody>, Problem> {
    end(&state, &known, &transaction, false).await
}

/// Lets the producers of a transaction be asked again from now on, as often as about a new one, whether it was given up
/// or not.
#[utoipa::path(
    post,
    path = "/v1/transactions/{transaction}/check",
    tag = "transactions",
    params(("transaction" = String, Path, description = "The transaction")),
    responses((status = 200, description = "The transaction as it is now", body = TransactionBody), Problems)
)]
pub(super) async fn check(
    State(state): State<ApiState>,
    known: Known,
    Names(transaction): Names<String>,
) -> Result<Json<TransactionBody>, Problem> {
    let handle = find(&state, &known, &transaction).await?;
    let opened = state.broker().check_again(handle).await;
    let opened = opened.map_err(of_broker)?;
    Ok(Json(TransactionBody::new(&opened, state.clocks())))
}

async fn end(
    state: &ApiState,
    known: &Known,
    transaction: &str,
    is_commit: bool,
) -> Result<Json<EndBody>, Problem> {
    let handle = find(state, known, transaction).await?;
    let outcome = state.broker().end_transaction(handle, is_commit).await;
    let message = match outcome.map_err(of_broker)? {
        Outcome::Committed(message) => Some(message),
        Outcome::RolledBack => None,
    };
    let clocks = state.clocks();
    Ok(Json(EndBody {
        outcome: match message {
            Some(_) => "committed",
            None => "rolled_back",
        },
        handle: message.map(|message| message.to_string()),
        due_at: message.map(|message| clocks.wall(message.place.due_ms)),
    }))
}

/// Returns the handle of a transaction. One of a topic that the account may not send to does not exist for it.
async fn find(state: &ApiState, known: &Known, text: &str) -> Result<TransactionHandle, Problem> {
    let shown: String = text.chars().take(64).collect();
    let unknown = || {
        let detail = format!("there is no transaction {shown:?}, or it ended too long ago");
        Problem::new(ProblemKind::TransactionNotFound, detail)
    };
    let handle: TransactionHandle = text.parse().map_err(|_| unknown())?;
    let topic = state.broker().topic_of_transaction(handle).await;
    let topic = topic.map_err(of_broker)?.ok_or_else(unknown)?;
    if known.administer().is_ok() || known.publish(&topic).is_ok() {
        return Ok(handle);
    }
    Err(unknown())
}
