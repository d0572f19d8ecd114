//! Builds the routes and the OpenAPI document that describes them.

use axum::Router;
use edge::openapi::Lead;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::problem::ProblemBody;
use super::{
    attempts, audit, coupons, events, health, merchants, metrics, orders, outbox, pauses, payments,
    products, refunds, simulator, unmatched, webhooks,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Duetime orders",
        description = "Orders that close on time. Times are RFC 3339 with milliseconds, amounts are integers in minor units of an ISO 4217 currency. Errors are problem documents (RFC 9457); docs/problems.md lists their types.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "products", description = "Products and their stock"),
        (name = "orders", description = "Orders with a deadline"),
        (name = "payments", description = "Payment attempts and gateways"),
        (name = "refunds", description = "Refunds of payments"),
        (name = "coupons", description = "Coupons and the rules that issue them"),
        (name = "events", description = "What happened, for the merchant's own systems"),
        (name = "operation", description = "For the operator"),
        (name = "simulator", description = "The simulated gateway's buyers; only where the simulator is on")
    ),
    components(schemas(ProblemBody)),
    modifiers(&BearerKey),
    security((), ("api_key" = []))
)]
struct Document;

/// Declares the API key that every request may carry.
struct BearerKey;

impl utoipa::Modify for BearerKey {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let key = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "A merchant's API key; callers on the same machine need none",
            ))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("api_key", SecurityScheme::Http(key));
    }
}

/// What can be done with what an answer names.
const LEADS: &[Lead] = &[
    lead("products.create", "/v1/products/{id}"),
    lead("orders.create", "/v1/orders/{id}"),
    lead("orders.payments.start", "/v1/attempts/{id}"),
    lead("orders.refunds.create", "/v1/refunds/{id}"),
    lead("coupon-rules.create_rule", "/v1/coupon-rules/{id}"),
    lead("merchants.create", "/v1/merchants/{id}"),
    Lead {
        parameters: &[("id", "$request.path.id"), ("key_id", "$response.body#/id")],
        ..lead(
            "merchants.keys.create_key",
            "/v1/merchants/{id}/keys/{key_id}",
        )
    },
];

/// The same, where the simulator is on.
const SIMULATOR_LEADS: &[Lead] = &[lead("orders.payments.start", "/v1/simulator/attempts/{id}")];

/// The id of what was made leads to the operations below `prefix`.
const fn lead(operation: &'static str, prefix: &'static str) -> Lead {
    Lead {
        operation,
        status: "201",
        prefix,
        parameters: &[("id", "$response.body#/id")],
    }
}

/// Returns the routes and the document that describes them.
pub(super) fn routes(with_simulator: bool) -> (Router<ApiState>, utoipa::openapi::OpenApi) {
    let mut router = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(products::create, products::list))
        .routes(routes!(products::show))
        .routes(routes!(products::adjust_stock))
        .routes(routes!(orders::create, orders::list))
        .routes(routes!(orders::show))
        .routes(routes!(orders::cancel))
        .routes(routes!(orders::extend))
        .routes(routes!(payments::start, payments::list))
        .routes(routes!(payments::callback))
        .routes(routes!(attempts::list))
        .routes(routes!(attempts::show))
        .routes(routes!(attempts::retry))
        .routes(routes!(attempts::settle))
        .routes(routes!(refunds::create, refunds::list))
        .routes(routes!(refunds::list_all))
        .routes(routes!(refunds::show))
        .routes(routes!(refunds::abandon))
        .routes(routes!(refunds::retry))
        .routes(routes!(refunds::settle))
        .routes(routes!(coupons::create_rule, coupons::list_rules))
        .routes(routes!(coupons::change_rule))
        .routes(routes!(coupons::list))
        .routes(routes!(coupons::show))
        .routes(routes!(coupons::transfer))
        .routes(routes!(events::list))
        .routes(routes!(webhooks::create, webhooks::list))
        .routes(routes!(webhooks::show, webhooks::change, webhooks::delete))
        .routes(routes!(webhooks::rotate))
        .routes(routes!(webhooks::list_deliveries))
        .routes(routes!(webhooks::resend))
        .routes(routes!(merchants::create_account, merchants::list_accounts))
        .routes(routes!(audit::show))
        .routes(routes!(pauses::pause))
        .routes(routes!(pauses::resume))
        .routes(routes!(pauses::list))
        .routes(routes!(outbox::list))
        .routes(routes!(outbox::unpark_all))
        .routes(routes!(outbox::unpark))
        .routes(routes!(unmatched::list))
        .routes(routes!(unmatched::show))
        .routes(routes!(unmatched::settle))
        .routes(routes!(unmatched::record))
        .routes(routes!(unmatched::close_order))
        .routes(routes!(merchants::create, merchants::list))
        .routes(routes!(merchants::show))
        .routes(routes!(merchants::create_key, merchants::list_keys))
        .routes(routes!(merchants::revoke_key))
        .routes(routes!(edge::health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::show_metrics));
    if with_simulator {
        router = router
            .routes(routes!(simulator::pay))
            .routes(routes!(simulator::show));
    }
    let (router, mut document) = router.split_for_parts();
    let leads = LEADS
        .iter()
        .chain(if with_simulator { SIMULATOR_LEADS } else { &[] });
    let leads: Vec<Lead> = leads.copied().collect();
    edge::openapi::complete(&mut document, &leads)
        .expect("each lead is of an operation of the document");
    (router, document)
}

/// Returns the OpenAPI 3.1 document of the API, including the simulator's part.
pub fn openapi_document() -> utoipa::openapi::OpenApi {
    routes(true).1
}
