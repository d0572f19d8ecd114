//! Serves coupons and the rules that issue them.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::auth::{Admin, Merchant};
use super::extract::{
    Created, IdempotencyKey, KeyedJson, Page, PathId, StrictJson, StrictQuery, page_limit,
};
use super::problem::{Problem, Problems};
use crate::ids::{CouponId, CouponRuleId, OrderId};
use crate::model::coupon::{self, NewCouponRule, OnFullRefund};
use crate::money::Currency;
use edge::instant::{Clocks, Instant};

/// How long a coupon is valid by default, in days.
const VALID_DAYS_DEFAULT: i64 = 30;

/// A rule to create: the buyer of every paid order that meets it gets a coupon.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewCouponRule)]
pub(super) struct NewRuleBody {
    /// Its name, unique for the merchant.
    #[schema(example = "Thank you", max_length = 200)]
    name: String,
    /// The discount of its coupons, in minor units.
    #[schema(minimum = 1, example = 500)]
    amount_off_minor: i64,
    /// ISO 4217 code of the orders that earn and use them.
    #[schema(value_type = String, example = "EUR")]
    currency: Currency,
    /// The minimum total of an order that earns one, in minor units.
    #[serde(default)]
    #[schema(minimum = 0)]
    min_total_minor: i64,
    /// For how many days a coupon is valid; 30 by default.
    #[serde(default = "valid_days_default")]
    #[schema(minimum = 1, maximum = 3650, default = 30)]
    valid_days: i64,
    /// What becomes of a used coupon when the order that used it is refunded in full: `keep` leaves it used, `return`
    /// makes it usable again; `keep` by default.
    #[serde(default = "on_full_refund_default")]
    #[schema(value_type = String, example = "keep", default = "keep")]
    on_full_refund: OnFullRefund,
}

fn valid_days_default() -> i64 {
    VALID_DAYS_DEFAULT
}

fn on_full_refund_default() -> OnFullRefund {
    OnFullRefund::Keep
}

/// A rule that issues coupons.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CouponRule)]
pub(super) struct RuleBody {
    /// Its id.
    #[schema(value_type = String, example = "cpr_01h455vb4pex5vsknk084sn02q")]
    id: CouponRuleId,
    /// Its name.
    name: String,
    /// The discount of its coupons, in minor units.
    amount_off_minor: i64,
    /// ISO 4217 code.
    #[schema(value_type = String, example = "EUR")]
    currency: Currency,
    /// The minimum total of an order that earns one, in minor units.
    min_total_minor: i64,
    /// For how many days a coupon is valid.
    valid_days: i64,
    /// Whether it issues coupons.
    active: bool,
    /// `keep` or `return`: what becomes of a used coupon when the order that used it is refunded in full.
    #[schema(example = "keep")]
    on_full_refund: &'static str,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Instant,
}

/// Whether a rule issues coupons.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CouponRuleChange)]
pub(super) struct RuleChange {
    /// Whether it issues coupons from now on; coupons that exist stay as they are.
    active: bool,
}

/// A discount on a later order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Coupon)]
pub(super) struct CouponBody {
    /// Its id.
    #[schema(value_type = String, example = "cpn_01h455vb4pex5vsknk084sn02q")]
    id: CouponId,
    /// The rule that issued it.
    #[schema(value_type = String)]
    rule_id: CouponRuleId,
    /// The paid order for which it was issued.
    #[schema(value_type = String)]
    source_order_id: OrderId,
    /// The buyer who may use it.
    buyer_id: String,
    /// The discount, in minor units.
    amount_off_minor: i64,
    /// ISO 4217 code.
    #[schema(value_type = String, example = "EUR")]
    currency: Currency,
    /// `free`, `held`, `used`, `expired` or `revoked`.
    #[schema(example = "free")]
    state: &'static str,
    /// The order that holds it or has used it.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    held_by: Option<OrderId>,
    /// When it expires.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Instant,
    /// When it was issued.
    #[schema(value_type = String, format = DateTime)]
    created_at: Instant,
}

/// The new owner of a coupon.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GiveCoupon)]
pub(super) struct GiveBody {
    /// The buyer who may use it from now on.
    #[schema(example = "buyer-8", max_length = 128)]
    buyer_id: String,
}

/// Which coupons to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// The buyer whose coupons to list.
    buyer_id: String,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<CouponId>,
    /// The maximum number of coupons on the page, up to 200; 50 by default.
    limit: Option<usize>,
}

impl RuleBody {
    /// Creates the answer, with the instants of the wall clock.
    fn new(rule: coupon::CouponRule, clocks: Clocks) -> Self {
        Self {
            id: rule.id,
            name: rule.name,
            amount_off_minor: rule.amount_off_minor,
            currency: rule.currency,
            min_total_minor: rule.min_total_minor,
            valid_days: rule.valid_days,
            active: rule.active,
            on_full_refund: rule.on_full_refund.as_str(),
            created_at: clocks.shown(rule.created_ms),
        }
    }
}

impl CouponBody {
    /// Creates the answer, with the instants of the wall clock.
    fn new(coupon: coupon::Coupon, clocks: Clocks) -> Self {
        Self {
            id: coupon.id,
            rule_id: coupon.rule_id,
            source_order_id: coupon.source_order_id,
            buyer_id: coupon.buyer_id,
            amount_off_minor: coupon.amount_off_minor,
            currency: coupon.currency,
            state: coupon.state.as_str(),
            held_by: coupon.held_by,
            expires_at: clocks.shown(coupon.expires_ms),
            created_at: clocks.shown(coupon.created_ms),
        }
    }
}

/// Creates a rule that issues coupons.
#[utoipa::path(
    post,
    path = "/v1/coupon-rules",
    tag = "coupons",
    params(("Idempotency-Key" = String, Header, description = "Names this request")),
    request_body = NewRuleBody,
    responses((status = 201, description = "The rule", body = RuleBody), Problems)
)]
pub(super) async fn create_rule(
    State(state): State<ApiState>,
    Admin(merchant): Admin,
    key: IdempotencyKey,
    KeyedJson { value, bytes }: KeyedJson<NewRuleBody>,
) -> Result<Created<RuleBody>, Problem> {
    let keyed = state.keyed(&merchant.id, &key, "POST /v1/coupon-rules", &bytes)?;
    let new = NewCouponRule {
        name: value.name,
        amount_off_minor: value.amount_off_minor,
        currency: value.currency,
        min_total_minor: value.min_total_minor,
        valid_days: value.valid_days,
        on_full_refund: value.on_full_refund,
    };
    let answered = merchant
        .platform
        .create_coupon_rule(&merchant.id, new, Some(keyed.idempotency.clone()))
        .await?;
    Ok(Created {
        location: "/v1/coupon-rules".to_owned(),
        value: RuleBody::new(answered.value, state.clocks()),
        replayed: answered.replayed,
    })
}

/// Lists the rules that issue coupons.
#[utoipa::path(
    get,
    path = "/v1/coupon-rules",
    tag = "coupons",
    responses((status = 200, description = "All rules", body = Page<RuleBody>), Problems)
)]
pub(super) async fn list_rules(
    State(state): State<ApiState>,
    merchant: Merchant,
) -> Result<Json<Page<RuleBody>>, Problem> {
    let rules = merchant.platform.coupon_rules(&merchant.id).await?;
    let clocks = state.clocks();
    let rules = rules.into_iter();
    Ok(Json(Page::whole(
        rules.map(|item| RuleBody::new(item, clocks)),
    )))
}

/// Switches a rule on or off.
#[utoipa::path(
    put,
    path = "/v1/coupon-rules/{id}",
    tag = "coupons",
    params(("id" = String, Path, description = "The rule")),
    request_body = RuleChange,
    responses((status = 200, description = "The rule", body = RuleBody), Problems)
)]
pub(super) async fn change_rule(
    State(state): State<ApiState>,
    Admin(merchant): Admin,
    PathId(id): PathId<CouponRuleId>,
    StrictJson(change): StrictJson<RuleChange>,
) -> Result<Json<RuleBody>, Problem> {
    let rule = merchant
        .platform
        .set_coupon_rule_active(&merchant.id, id, change.active)
        .await?;
    Ok(Json(RuleBody::new(rule, state.clocks())))
}

/// Lists a buyer's coupons, oldest first.
#[utoipa::path(
    get,
    path = "/v1/coupons",
    tag = "coupons",
    params(ListQuery),
    responses((status = 200, description = "A page of coupons", body = Page<CouponBody>), Problems)
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    merchant: Merchant,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> Result<Json<Page<CouponBody>>, Problem> {
    let limit = page_limit(query.limit)?;
    let coupons = merchant
        .platform
        .coupons_of_buyer(&merchant.id, &query.buyer_id, query.cursor, limit)
        .await?;
    let clocks = state.clocks();
    Ok(Json(Page::of(
        coupons,
        limit,
        |coupon| coupon.id.to_string(),
        |item| CouponBody::new(item, clocks),
    )))
}

/// Shows a coupon.
#[utoipa::path(
    get,
    path = "/v1/coupons/{id}",
    tag = "coupons",
    params(("id" = String, Path, description = "The coupon")),
    responses((status = 200, description = "The coupon", body = CouponBody), Problems)
)]
pub(super) async fn show(
    State(state): State<ApiState>,
    merchant: Merchant,
    PathId(id): PathId<CouponId>,
) -> Result<Json<CouponBody>, Problem> {
    let coupon = merchant.platform.coupon(&merchant.id, id).await?;
    Ok(Json(CouponBody::new(coupon, state.clocks())))
}

/// Transfers an unused coupon to another buyer.
#[utoipa::path(
    post,
    path = "/v1/coupons/{id}/give",
    operation_id = "give",
    tag = "coupons",
    params(("id" = String, Path, description = "The coupon")),
    request_body = GiveBody,
    responses((status = 200, description = "The coupon", body = CouponBody), Problems)
)]
pub(super) async fn transfer(
    State(state): State<ApiState>,
    merchant: Merchant,
    PathId(id): PathId<CouponId>,
    StrictJson(body): StrictJson<GiveBody>,
) -> Result<Json<CouponBody>, Problem> {
    let coupon = merchant
        .platform
        .transfer_coupon(&merchant.id, id, &body.buyer_id)
        .await?;
    Ok(Json(CouponBody::new(coupon, state.clocks())))
}
