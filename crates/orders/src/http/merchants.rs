//! Serves merchants, their API keys and their gateway accounts.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ApiState;
use super::auth::{Admin, Merchant, Operator};
use super::extract::{Created, IdempotencyKey, KeyedJson, Page, PathId, StrictJson};
use super::problem::{Problem, ProblemKind, Problems};
use crate::ids::{ApiKeyId, GatewayAccountId, MerchantId};
use crate::model::merchant::{self, KeyTerms, NewGatewayAccount, Scope, Scopes};
use edge::instant::{Clocks, Instant};
use gateway::simulator::GATEWAY_NAME;

/// A merchant to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewMerchant)]
pub(super) struct NewMerchantBody {
    /// Its id, which the operator chooses: 1 to 32 of `a-z`, `0-9`, `_` and `-`.
    #[schema(value_type = String, example = "shop-1")]
    id: MerchantId,
    /// Its name.
    #[schema(example = "Shop One", max_length = 200)]
    name: String,
}

/// A merchant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Merchant)]
pub(super) struct MerchantBody {
    /// Its id.
    #[schema(value_type = String, example = "shop-1")]
    id: MerchantId,
    /// Its name.
    name: String,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Instant,
}

/// An API key to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewApiKey)]
pub(super) struct NewKeyBody {
    /// Its name.
    #[schema(example = "web shop", max_length = 200)]
    label: String,
    /// What it may do; everything if it is left out: `read`, `write`, `refund`, `admin`.
    #[schema(inline, min_items = 1)]
    scopes: Option<Vec<ScopeName>>,
    /// From when on it is not accepted; never if it is left out.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Instant>,
}

/// What an API key may do.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ScopeName {
    /// Read everything of the merchant.
    Read,
    /// Create and change products, orders, payment attempts and coupons.
    Write,
    /// Give money back.
    Refund,
    /// Make coupon rules and gateway accounts, pause, and settle payment attempts by hand.
    Admin,
}

impl From<ScopeName> for Scope {
    fn from(name: ScopeName) -> Self {
        match name {
            ScopeName::Read => Self::Read,
            ScopeName::Write => Self::Write,
            ScopeName::Refund => Self::Refund,
            ScopeName::Admin => Self::Admin,
        }
    }
}

/// An API key; the key itself is only in the answer to the request that created it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub(super) struct KeyBody {
    /// Its id.
    #[schema(value_type = String, example = "key_01h455vb4pex5vsknk084sn02q")]
    id: ApiKeyId,
    /// Its name.
    label: String,
    /// What it may do.
    #[schema(value_type = Vec<String>, example = json!(["read", "write"]))]
    scopes: Vec<&'static str>,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Instant,
    /// From when on it is not accepted.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Instant>,
    /// When it was last used.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<Instant>,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Instant>,
    /// The key to send after `Bearer`; it is not stored and cannot be shown again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// A gateway account to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewGatewayAccount)]
pub(super) struct NewAccountBody {
    /// The kind of gateway: `simulator`.
    #[schema(example = "simulator")]
    gateway: String,
    /// Its name, unique for the merchant.
    #[schema(example = "main", max_length = 200)]
    name: String,
}

/// An account at a payment gateway.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GatewayAccount)]
pub(super) struct AccountBody {
    /// Its id: callbacks come to `/v1/gateways/{id}/callbacks`.
    #[schema(value_type = String, example = "gwa_01h455vb4pex5vsknk084sn02q")]
    id: GatewayAccountId,
    /// The kind of gateway.
    gateway: String,
    /// Its name.
    name: String,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Instant,
}

impl MerchantBody {
    /// Creates the answer, with the instants of the wall clock.
    fn new(merchant: merchant::Merchant, clocks: Clocks) -> Self {
        Self {
            id: merchant.id,
            name: merchant.name,
            created_at: clocks.shown(merchant.created_ms),
        }
    }
}

impl KeyBody {
    fn new(key: merchant::ApiKey, secret: Option<String>, clocks: Clocks) -> Self {
        Self {
            id: key.id,
            label: key.label,
            scopes: key.scopes.iter().map(Scope::as_str).collect(),
            expires_at: key.expires_at_ms.map(Instant),
            last_used_at: key.used_at_ms.map(Instant),
            created_at: clocks.shown(key.created_ms),
            revoked_at: key.revoked_ms.map(|ms| clocks.shown(ms)),
            secret,
        }
    }
}

impl AccountBody {
    /// Creates the answer, with the instants of the wall clock.
    fn new(account: merchant::GatewayAccount, clocks: Clocks) -> Self {
        // The settings may hold secrets and are not shown.
        Self {
            id: account.id,
            gateway: account.gateway,
            name: account.name,
            created_at: clocks.shown(account.created_ms),
        }
    }
}

/// Creates a merchant. For the operator.
#[utoipa::path(
    post,
    path = "/v1/merchants",
    tag = "operation",
    request_body = NewMerchantBody,
    responses((status = 201, description = "The merchant", body = MerchantBody), Problems)
)]
pub(super) async fn create(
    State(state): State<ApiState>,
    operator: Operator,
    StrictJson(body): StrictJson<NewMerchantBody>,
) -> Result<Created<MerchantBody>, Problem> {
    let merchant = operator
        .platform
        .create_merchant(&body.id, &body.name)
        .await?;
    Ok(Created {
        location: format!("/v1/merchants/{}", merchant.id),
        value: MerchantBody::new(merchant, state.clocks()),
        replayed: false,
    })
}

/// Lists the merchants. For the operator.
#[utoipa::path(
    get,
    path = "/v1/merchants",
    tag = "operation",
    responses((status = 200, description = "All merchants", body = Page<MerchantBody>), Problems)
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    operator: Operator,
) -> Result<Json<Page<MerchantBody>>, Problem> {
    let merchants = operator.platform.merchants().await?;
    let clocks = state.clocks();
    let merchants = merchants.into_iter();
    let shown = merchants.map(|item| MerchantBody::new(item, clocks));
    Ok(Json(Page::whole(shown)))
}

/// Shows a merchant. For the operator.
#[utoipa::path(
    get,
    path = "/v1/merchants/{id}",
    tag = "operation",
    params(("id" = String, Path, description = "The merchant")),
    responses((status = 200, description = "The merchant", body = MerchantBody), Problems)
)]
pub(super) async fn show(
    State(state): State<ApiState>,
    operator: Operator,
    PathId(id): PathId<MerchantId>,
) -> Result<Json<MerchantBody>, Problem> {
    let merchant = operator.platform.merchant(&id).await?;
    Ok(Json(MerchantBody::new(merchant, state.clocks())))
}

/// Creates an API key for a merchant. For the operator.
#[utoipa::path(
    post,
    path = "/v1/merchants/{id}/keys",
    tag = "operation",
    params(("id" = String, Path, description = "The merchant")),
    request_body = NewKeyBody,
    responses((status = 201, description = "The key, shown this once", body = KeyBody), Problems)
)]
pub(super) async fn create_key(
    State(state): State<ApiState>,
    operator: Operator,
    PathId(id): PathId<MerchantId>,
    StrictJson(body): StrictJson<NewKeyBody>,
) -> Result<Created<KeyBody>, Problem> {
    let scopes = body.scopes.map_or(Scopes::ALL, |names| {
        let scopes: Vec<Scope> = names.into_iter().map(Scope::from).collect();
        Scopes::of(&scopes)
    });
    let terms = KeyTerms {
        label: body.label,
        scopes,
        expires_at_ms: body.expires_at.map(|Instant(at_ms)| at_ms),
    };
    let made = operator.platform.create_limited_api_key(&id, terms).await?;
    Ok(Created {
        location: format!("/v1/merchants/{id}/keys"),
        value: KeyBody::new(made.key, Some(made.secret), state.clocks()),
        replayed: false,
    })
}

/// Lists a merchant's API keys, including revoked ones. For the operator.
#[utoipa::path(
    get,
    path = "/v1/merchants/{id}/keys",
    tag = "operation",
    params(("id" = String, Path, description = "The merchant")),
    responses((status = 200, description = "All keys", body = Page<KeyBody>), Problems)
)]
pub(super) async fn list_keys(
    State(state): State<ApiState>,
    operator: Operator,
    PathId(id): PathId<MerchantId>,
) -> Result<Json<Page<KeyBody>>, Problem> {
    operator.platform.merchant(&id).await?;
    let keys = operator.platform.api_keys(&id).await?;
    let clocks = state.clocks();
    let items = keys.into_iter().map(|key| KeyBody::new(key, None, clocks));
    Ok(Json(Page {
        items: items.collect(),
        next_cursor: None,
    }))
}

/// Revokes an API key. For the operator.
#[utoipa::path(
    delete,
    path = "/v1/merchants/{id}/keys/{key_id}",
    tag = "operation",
    params(
        ("id" = String, Path, description = "The merchant"),
        ("key_id" = String, Path, description = "The key")
    ),
    responses((status = 204, description = "The key is revoked"), Problems)
)]
pub(super) async fn revoke_key(
    operator: Operator,
    Path((merchant_id, key_id)): Path<(String, String)>,
) -> Result<impl IntoResponse, Problem> {
    let none = |error: crate::ids::IdError| Problem::new(ProblemKind::NotFound, error.to_string());
    let merchant_id: MerchantId = merchant_id.parse().map_err(none)?;
    let key_id: ApiKeyId = key_id.parse().map_err(none)?;
    operator
        .platform
        .revoke_api_key(&merchant_id, key_id)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Creates an account at a payment gateway.
#[utoipa::path(
    post,
    path = "/v1/gateways",
    tag = "payments",
    params(("Idempotency-Key" = String, Header, description = "Names this request")),
    request_body = NewAccountBody,
    responses((status = 201, description = "The account", body = AccountBody), Problems)
)]
pub(super) async fn create_account(
    State(state): State<ApiState>,
    Admin(merchant): Admin,
    key: IdempotencyKey,
    KeyedJson { value, bytes }: KeyedJson<NewAccountBody>,
) -> Result<Created<AccountBody>, Problem> {
    let keyed = state.keyed(&merchant.id, &key, "POST /v1/gateways", &bytes)?;
    let simulator = state.settings().simulator.as_ref();
    let Some(simulator) = simulator.filter(|_| value.gateway == GATEWAY_NAME) else {
        let detail = format!("the gateway `{}` is unknown", value.gateway);
        return Err(Problem::invalid("/gateway", detail));
    };
    let new = NewGatewayAccount {
        gateway: value.gateway,
        name: value.name,
        settings: "{}".to_owned(),
    };
    let answered = merchant
        .platform
        .create_gateway_account(&merchant.id, new, Some(keyed.idempotency.clone()))
        .await?;
    merchant
        .platform
        .connect_simulated_account(simulator, answered.value.id);
    Ok(Created {
        location: "/v1/gateways".to_owned(),
        value: AccountBody::new(answered.value, state.clocks()),
        replayed: answered.replayed,
    })
}

/// Lists the merchant's gateway accounts.
#[utoipa::path(
    get,
    path = "/v1/gateways",
    tag = "payments",
    responses((status = 200, description = "All accounts", body = Page<AccountBody>), Problems)
)]
pub(super) async fn list_accounts(
    State(state): State<ApiState>,
    merchant: Merchant,
) -> Result<Json<Page<AccountBody>>, Problem> {
    let accounts = merchant
        .platform
        .gateway_accounts(Some(&merchant.id))
        .await?;
    let clocks = state.clocks();
    let accounts = accounts.into_iter();
    let shown = accounts.map(|item| AccountBody::new(item, clocks));
    Ok(Json(Page::whole(shown)))
}
