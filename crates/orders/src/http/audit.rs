//! Serves audit trails: who did what to an order, a product or another thing of a merchant.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::ApiState;
use super::auth::Merchant;
use super::extract::{Page, StrictQuery, page_limit};
use super::orders::AuditBody;
use super::problem::{Problem, Problems};

/// Which audit trail to show.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TrailQuery {
    /// The id of an order, a coupon, a coupon rule, a product, an unmatched payment or a merchant.
    #[param(example = "prd_01h455vb4pex5vsknk084sn02q")]
    subject: String,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<i64>,
    /// How many at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<usize>,
}

/// Shows what was done to a thing of the merchant and on whose request, oldest first.
///
/// API keys and gateway accounts are in the trail of their merchant.
#[utoipa::path(
    get,
    path = "/v1/audit",
    tag = "operation",
    params(TrailQuery),
    responses((status = 200, description = "A page of the trail", body = Page<AuditBody>), Problems)
)]
pub(super) async fn show(
    State(state): State<ApiState>,
    merchant: Merchant,
    StrictQuery(query): StrictQuery<TrailQuery>,
) -> Result<Json<Page<AuditBody>>, Problem> {
    let limit = page_limit(query.limit)?;
    let after_seq = query.cursor.unwrap_or(0);
    let platform = &merchant.platform;
    let found = platform.audit_trail(&merchant.id, &query.subject, after_seq, limit);
    let clocks = state.clocks();
    Ok(Json(Page::of(
        found.await?,
        limit,
        |placed| placed.seq.to_string(),
        |placed| AuditBody::new(placed.entry, clocks),
    )))
}
