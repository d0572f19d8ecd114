//! Serves webhook endpoints and the deliveries to them.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use edge::instant::{Clocks, Instant, Span};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::auth::{Admin, Merchant};
use super::extract::{Created, OptionalJson, Page, PathId, StrictJson, StrictQuery, page_limit};
use super::problem::{Problem, ProblemKind, Problems};
use crate::ids::{WebhookDeliveryId, WebhookId};
use crate::model::event::EventType;
use crate::model::webhook::{
    Delivery, DeliveryState, DeliveryTry, NewWebhook, Webhook, WebhookChange,
};

/// How long the old secret signs too, if the request does not say, in ms.
const OVERLAP_MS: u64 = 24 * 3_600_000;

/// An endpoint to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewWebhook)]
pub(super) struct NewBody {
    /// Where events are sent to: `https`, and no private address unless the operator allows it.
    #[schema(example = "https://shop.example/webhooks", max_length = 2048)]
    url: String,
    /// Which types of events it gets; all if left out or empty.
    #[serde(default)]
    #[schema(example = json!(["order.paid", "order.closed"]))]
    types: Vec<String>,
}

/// What is to change of an endpoint; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WebhookChange)]
pub(super) struct ChangeBody {
    /// Where events are sent to.
    #[schema(max_length = 2048)]
    url: Option<String>,
    /// Which types of events it gets; all if the list is empty.
    types: Option<Vec<String>>,
    /// Whether it gets events. One that is switched on gets those from then on.
    active: Option<bool>,
}

/// An endpoint that events are sent to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Webhook)]
pub(super) struct WebhookBody {
    /// Its id.
    #[schema(value_type = String, example = "whk_01h455vb4pex5vsknk084sn02q")]
    id: WebhookId,
    /// Where events are sent to.
    url: String,
    /// Which types of events it gets; all if the list is empty.
    types: Vec<&'static str>,
    /// `active`, `off`, or `disabled` by the platform.
    #[schema(example = "active")]
    state: &'static str,
    /// Since when no delivery has succeeded while some failed.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    failing_since: Option<Instant>,
    /// Until when events are also signed with the secret before the present one.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    old_secret_until: Option<Instant>,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Instant,
    /// The secret that signs, only in the answer to the request that made it.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// For how long both secrets sign.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = RotateSecret)]
pub(super) struct RotateBody {
    /// How long the old secret signs too, up to 7 days; 24 h by default.
    #[schema(value_type = Option<String>, example = "24h")]
    overlap: Option<Span>,
}

/// The delivery of an event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookDelivery)]
pub(super) struct DeliveryBody {
    /// Its id.
    #[schema(value_type = String, example = "whd_01h455vb4pex5vsknk084sn02q")]
    id: WebhookDeliveryId,
    /// The event, as in the header `webhook-id`.
    #[schema(example = "evt_01h455vb4pex5vsknk084sn02q")]
    event_id: String,
    /// The type of the event.
    #[schema(example = "order.paid")]
    r#type: String,
    /// What the event is about.
    #[schema(example = "ord_01h455vb4pex5vsknk084sn02q")]
    subject: String,
    /// `due`, `queued` until an earlier event of its subject has ended, `delivered` or `given_up`.
    #[schema(example = "delivered")]
    state: &'static str,
    /// When it is tried next.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<Instant>,
    /// The last tries, up to 16, oldest first.
    tries: Vec<TryBody>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Instant,
    /// When it was delivered or given up.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Instant>,
}

/// One try to deliver.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookTry)]
pub(super) struct TryBody {
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    at: Instant,
    /// How long it took, in ms.
    took_ms: i64,
    /// The status of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Why there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Which deliveries to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only deliveries in this state: `due`, `queued`, `delivered` or `given_up`.
    #[param(value_type = Option<String>)]
    state: Option<DeliveryState>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<WebhookDeliveryId>,
    /// How many at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<usize>,
}

impl WebhookBody {
    /// Creates the answer, with the instants of the wall clock.
    fn new(webhook: Webhook, secret: Option<String>, clocks: Clocks) -> Self {
        let now_ms = i64::try_from(clocks.now_ms).unwrap_or(i64::MAX);
        let old_until = webhook.old_secret_until_ms.filter(|ms| *ms > now_ms);
        Self {
            id: webhook.id,
            url: webhook.url,
            types: webhook.types.iter().map(|kind| kind.as_str()).collect(),
            state: webhook.state.as_str(),
            failing_since: webhook.failing_since_ms.map(|ms| clocks.shown(ms)),
            old_secret_until: old_until.map(|ms| clocks.shown(ms)),
            created_at: clocks.shown(webhook.created_ms),
            secret,
        }
    }
}

impl DeliveryBody {
    /// Creates the answer, with the instants of the wall clock.
    fn new(delivery: Delivery, clocks: Clocks) -> Self {
        let next_ms = Some(delivery.next_ms).filter(|_| delivery.state == DeliveryState::Due);
        let tries = delivery.log.into_iter();
        Self {
            id: delivery.id,
            event_id: delivery.event_id,
            r#type: delivery.kind,
            subject: delivery.subject,
            state: delivery.state.as_str(),
            next_at: next_ms.map(|ms| clocks.shown(ms)),
            tries: tries.map(|tried| TryBody::new(tried, clocks)).collect(),
            created_at: clocks.shown(delivery.created_ms),
            ended_at: delivery.ended_ms.map(|ms| clocks.shown(ms)),
        }
    }
}

impl TryBody {
    /// Creates the answer, with the instants of the wall clock.
    fn new(tried: DeliveryTry, clocks: Clocks) -> Self {
        Self {
            at: clocks.shown(tried.at_ms),
            took_ms: tried.took_ms,
            status: tried.status,
            error: tried.error,
        }
    }
}

/// The types of these names, each once.
fn types_of(names: &[String]) -> Result<Vec<EventType>, Problem> {
    let mut types = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let Some(kind) = EventType::of_name(name) else {
            let name: String = name.chars().take(64).collect();
            let detail = format!("`{name}` is not a type of events; docs/events.md lists them");
            return Err(Problem::invalid(format!("/types/{number}"), detail));
        };
        if !types.contains(&kind) {
            types.push(kind);
        }
    }
    Ok(types)
}

/// Creates an endpoint that the merchant's events are sent to from now on. Its secret is shown this once.
#[utoipa::path(
    post,
    path = "/v1/webhooks",
    tag = "events",
    request_body = NewBody,
    responses((status = 201, description = "The endpoint with its secret", body = WebhookBody), Problems)
)]
pub(super) async fn create(
    State(state): State<ApiState>,
    Admin(merchant): Admin,
    StrictJson(body): StrictJson<NewBody>,
) -> Result<Created<WebhookBody>, Problem> {
    let new = NewWebhook {
        types: types_of(&body.types)?,
        url: body.url,
    };
    let (webhook, secret) = merchant.platform.create_webhook(&merchant.id, new).await?;
    Ok(Created {
        location: format!("/v1/webhooks/{}", webhook.id),
        value: WebhookBody::new(webhook, Some(secret), state.clocks()),
        replayed: false,
    })
}

/// Lists the merchant's endpoints, oldest first.
#[utoipa::path(
    get,
    path = "/v1/webhooks",
    tag = "events",
    responses((status = 200, description = "All endpoints", body = Page<WebhookBody>), Problems)
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    merchant: Merchant,
) -> Result<Json<Page<WebhookBody>>, Problem> {
    let webhooks = merchant.platform.webhooks(&merchant.id).await?;
    let clocks = state.clocks();
    let webhooks = webhooks.into_iter();
    Ok(Json(Page::whole(
        webhooks.map(|webhook| WebhookBody::new(webhook, None, clocks)),
    )))
}

/// Shows an endpoint.
#[utoipa::path(
    get,
    path = "/v1/webhooks/{id}",
    tag = "events",
    params(("id" = String, Path, description = "The endpoint")),
    responses((status = 200, description = "The endpoint", body = WebhookBody), Problems)
)]
pub(super) async fn show(
    State(state): State<ApiState>,
    merchant: Merchant,
    PathId(id): PathId<WebhookId>,
) -> Result<Json<WebhookBody>, Problem> {
    let webhook = merchant.platform.webhook(&merchant.id, id).await?;
    Ok(Json(WebhookBody::new(webhook, None, state.clocks())))
}

/// Changes an endpoint, or switches it on or off. What was not delivered to one that is off is given up.
#[utoipa::path(
    patch,
    path = "/v1/webhooks/{id}",
    tag = "events",
    params(("id" = String, Path, description = "The endpoint")),
    request_body = ChangeBody,
    responses((status = 200, description = "The endpoint", body = WebhookBody), Problems)
)]
pub(super) async fn change(
    State(state): State<ApiState>,
    Admin(merchant): Admin,
    PathId(id): PathId<WebhookId>,
    StrictJson(body): StrictJson<ChangeBody>,
) -> Result<Json<WebhookBody>, Problem> {
    let types = body.types.map(|names| types_of(&names)).transpose()?;
    let change = WebhookChange {
        url: body.url,
        types,
        active: body.active,
    };
    let platform = &merchant.platform;
    let webhook = platform.change_webhook(&merchant.id, id, change).await?;
    Ok(Json(WebhookBody::new(webhook, None, state.clocks())))
}

/// Deletes an endpoint.
#[utoipa::path(
    delete,
    path = "/v1/webhooks/{id}",
    tag = "events",
    params(("id" = String, Path, description = "The endpoint")),
    responses((status = 204, description = "The endpoint is deleted"), Problems)
)]
pub(super) async fn delete(
    Admin(merchant): Admin,
    PathId(id): PathId<WebhookId>,
) -> Result<impl IntoResponse, Problem> {
    merchant.platform.delete_webhook(&merchant.id, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives an endpoint a new secret. Until the overlap ends, events are signed with both.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{id}/secret",
    tag = "events",
    params(("id" = String, Path, description = "The endpoint")),
    request_body = Option<RotateBody>,
    responses((status = 200, description = "The endpoint with its new secret", body = WebhookBody), Problems)
)]
pub(super) async fn rotate(
    State(state): State<ApiState>,
    Admin(merchant): Admin,
    PathId(id): PathId<WebhookId>,
    OptionalJson(body): OptionalJson<RotateBody>,
) -> Result<Json<WebhookBody>, Problem> {
    let overlap_ms = body.overlap.map_or(OVERLAP_MS, |span| span.ms);
    let overlap_ms = i64::try_from(overlap_ms).unwrap_or(i64::MAX);
    let platform = &merchant.platform;
    let rotated = platform.rotate_webhook_secret(&merchant.id, id, overlap_ms);
    let (webhook, secret) = rotated.await?;
    let clocks = state.clocks();
    Ok(Json(WebhookBody::new(webhook, Some(secret), clocks)))
}

/// Lists the deliveries to an endpoint, the latest first. They are kept for 7 days after their end.
#[utoipa::path(
    get,
    path = "/v1/webhooks/{id}/deliveries",
    tag = "events",
    params(("id" = String, Path, description = "The endpoint"), ListQuery),
    responses((status = 200, description = "A page of deliveries", body = Page<DeliveryBody>), Problems)
)]
pub(super) async fn list_deliveries(
    State(state): State<ApiState>,
    merchant: Merchant,
    PathId(id): PathId<WebhookId>,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> Result<Json<Page<DeliveryBody>>, Problem> {
    let limit = page_limit(query.limit)?;
    let place = (query.cursor, limit);
    let platform = &merchant.platform;
    let found = platform.webhook_deliveries(&merchant.id, id, query.state, place);
    let found = found.await?;
    let last = found.last().filter(|_| found.len() == limit);
    let next_cursor = last.map(|delivery| delivery.id.to_string());
    let clocks = state.clocks();
    let items = found.into_iter();
    Ok(Json(Page {
        items: items.map(|item| DeliveryBody::new(item, clocks)).collect(),
        next_cursor,
    }))
}

/// Sends an event again that was delivered or given up, as soon as no other of its subject is due.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{id}/deliveries/{delivery_id}/resend",
    tag = "events",
    params(
        ("id" = String, Path, description = "The endpoint"),
        ("delivery_id" = String, Path, description = "The delivery")
    ),
    responses((status = 200, description = "The delivery", body = DeliveryBody), Problems)
)]
pub(super) async fn resend(
    State(state): State<ApiState>,
    merchant: Merchant,
    Path((id, delivery_id)): Path<(String, String)>,
) -> Result<Json<DeliveryBody>, Problem> {
    let none = |error: crate::ids::IdError| Problem::new(ProblemKind::NotFound, error.to_string());
    let id: WebhookId = id.parse().map_err(none)?;
    let delivery_id: WebhookDeliveryId = delivery_id.parse().map_err(none)?;
    let platform = &merchant.platform;
    let delivery = platform
        .resend_webhook(&merchant.id, id, delivery_id)
        .await?;
    Ok(Json(DeliveryBody::new(delivery, state.clocks())))
}
