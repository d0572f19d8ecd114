//! Serves products.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::auth::Merchant;
use super::extract::{
    Changed, Created, IdempotencyKey, KeyedJson, Page, PathId, StrictQuery, page_limit,
};
use super::problem::{Problem, Problems};
use crate::ids::ProductId;
use crate::model::product::{self, NewProduct};
use crate::money::Currency;
use edge::instant::{Clocks, Instant};

/// A product to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewProduct)]
pub(super) struct NewProductBody {
    /// Its name.
    #[schema(example = "Concert ticket", max_length = 200)]
    name: String,
    /// Price of one unit, in minor units of the currency.
    #[schema(minimum = 0, example = 4900)]
    price_minor: i64,
    /// ISO 4217 code.
    #[schema(value_type = String, example = "EUR")]
    currency: Currency,
    /// The initial stock, in units.
    #[schema(minimum = 0, example = 100)]
    stock: i64,
}

/// A product.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Product {
    /// Its id.
    #[schema(value_type = String, example = "prd_01h455vb4pex5vsknk084sn02q")]
    id: ProductId,
    /// Its name.
    name: String,
    /// Price of one unit, in minor units of the currency.
    price_minor: i64,
    /// ISO 4217 code.
    #[schema(value_type = String, example = "EUR")]
    currency: Currency,
    /// Units that can be held now.
    available: i64,
    /// All units ever added; the difference to `available` is held or sold.
    stocked: i64,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Instant,
}

/// A change of a product's stock.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StockChange {
    /// Units to add, or to remove if negative; at most the available ones.
    #[schema(example = 10)]
    delta: i64,
}

/// Which products to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<ProductId>,
    /// The maximum number of products on the page, up to 200; 50 by default.
    limit: Option<usize>,
}

impl Product {
    /// Creates the answer, with the instants of the wall clock.
    fn new(product: product::Product, clocks: Clocks) -> Self {
        Self {
            id: product.id,
            name: product.name,
            price_minor: product.price_minor,
            currency: product.currency,
            available: product.available,
            stocked: product.stocked,
            created_at: clocks.shown(product.created_ms),
        }
    }
}

/// Creates a product.
#[utoipa::path(
    post,
    path = "/v1/products",
    tag = "products",
    params(("Idempotency-Key" = String, Header, description = "Names this request")),
    request_body = NewProductBody,
    responses((status = 201, description = "The product", body = Product), Problems)
)]
pub(super) async fn create(
    State(state): State<ApiState>,
    merchant: Merchant,
    key: IdempotencyKey,
    KeyedJson { value, bytes }: KeyedJson<NewProductBody>,
) -> Result<Created<Product>, Problem> {
    let keyed = state.keyed(&merchant.id, &key, "POST /v1/products", &bytes)?;
    let new = NewProduct {
        name: value.name,
        price_minor: value.price_minor,
        currency: value.currency,
        stock: value.stock,
    };
    let answered = merchant
        .platform
        .create_product(&merchant.id, new, Some(keyed.idempotency.clone()))
        .await?;
    Ok(Created {
        location: format!("/v1/products/{}", answered.value.id),
        value: Product::new(answered.value, state.clocks()),
        replayed: answered.replayed,
    })
}

/// Lists products, oldest first.
#[utoipa::path(
    get,
    path = "/v1/products",
    tag = "products",
    params(ListQuery),
    responses((status = 200, description = "A page of products", body = Page<Product>), Problems)
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    merchant: Merchant,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> Result<Json<Page<Product>>, Problem> {
    let limit = page_limit(query.limit)?;
    let products = merchant
        .platform
        .products(&merchant.id, query.cursor, limit)
        .await?;
    let clocks = state.clocks();
    Ok(Json(Page::of(
        products,
        limit,
        |product| product.id.to_string(),
        |item| Product::new(item, clocks),
    )))
}

/// Shows a product.
#[utoipa::path(
    get,
    path = "/v1/products/{id}",
    tag = "products",
    params(("id" = String, Path, description = "The product")),
    responses((status = 200, description = "The product", body = Product), Problems)
)]
pub(super) async fn show(
    State(state): State<ApiState>,
    merchant: Merchant,
    PathId(id): PathId<ProductId>,
) -> Result<Json<Product>, Problem> {
    let product = merchant.platform.product(&merchant.id, id).await?;
    Ok(Json(Product::new(product, state.clocks())))
}

/// Adds units to the stock of a product, or removes them. A repeated request would count twice, so it needs a key too.
#[utoipa::path(
    post,
    path = "/v1/products/{id}/stock",
    tag = "products",
    params(
        ("id" = String, Path, description = "The product"),
        ("Idempotency-Key" = String, Header, description = "Names this request")
    ),
    request_body = StockChange,
    responses((status = 200, description = "The product", body = Product), Problems)
)]
pub(super) async fn adjust_stock(
    State(state): State<ApiState>,
    merchant: Merchant,
    PathId(id): PathId<ProductId>,
    key: IdempotencyKey,
    KeyedJson { value, bytes }: KeyedJson<StockChange>,
) -> Result<Changed<Product>, Problem> {
    let operation = format!("POST /v1/products/{id}/stock");
    let keyed = state.keyed(&merchant.id, &key, &operation, &bytes)?;
    let key = Some(keyed.idempotency.clone());
    let answered = merchant
        .platform
        .adjust_stock(&merchant.id, id, value.delta, key)
        .await?;
    Ok(Changed {
        value: Product::new(answered.value, state.clocks()),
        replayed: answered.replayed,
    })
}
