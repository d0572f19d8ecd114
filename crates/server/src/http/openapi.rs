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
    dead_letters, deliveries, groups, health, messages, metrics, timers, topics, transactions,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Duetime broker",
        description = "Messages that arrive in due time. Times are RFC 3339 with milliseconds, durations are texts such as `500ms`, `30s`, `10m`, `2h` and `3d`. Errors are problem documents (RFC 9457); docs/broker-http.md lists their types.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "messages", description = "Send, find, recall and move"),
        (name = "deliveries", description = "Receive and settle"),
        (name = "timers", description = "Keyed timers: at most one message waits under a key"),
        (name = "topics", description = "Destinations of messages"),
        (name = "groups", description = "Consumer groups"),
        (name = "dead letters", description = "Messages that failed all their deliveries"),
        (name = "transactions", description = "Transactions that were given up: their producers have not ended them"),
        (name = "operation", description = "For the operator")
    ),
    components(schemas(ProblemBody)),
    modifiers(&Accounts),
    security((), ("password" = []), ("token" = []))
)]
struct Document;

/// Declares the credentials of a request.
struct Accounts;

impl utoipa::Modify for Accounts {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        for (name, scheme, description) in [
            (
                "password",
                HttpAuthScheme::Basic,
                "Name and secret of an account",
            ),
            (
                "token",
                HttpAuthScheme::Bearer,
                "A token that identifies an account",
            ),
        ] {
            let scheme = HttpBuilder::new()
                .scheme(scheme)
                .description(Some(description));
            components.add_security_scheme(name, SecurityScheme::Http(scheme.build()));
        }
    }
}

/// What can be done with what an answer names.
const LEADS: &[Lead] = &[
    Lead {
        operation: "topics.create",
        status: "201",
        prefix: "/v1/topics/{topic}",
        parameters: &[("topic", "$response.body#/name")],
    },
    Lead {
        operation: "groups.create",
        status: "201",
        prefix: "/v1/groups/{group}",
        parameters: &[("group", "$response.body#/name")],
    },
    Lead {
        operation: "topics.messages.send",
        status: "201",
        prefix: "/v1/topics/{topic}/messages/{message}",
        parameters: &[
            ("topic", "$request.path.topic"),
            ("message", "$response.body#/message_id"),
        ],
    },
    Lead {
        operation: "topics.groups.receive",
        status: "200",
        prefix: "/v1/topics/{topic}/groups/{group}",
        parameters: &[
            ("topic", "$request.path.topic"),
            ("group", "$request.path.group"),
        ],
    },
    Lead {
        operation: "timers.set",
        status: "201",
        prefix: "/v1/timers/{topic}/{key}",
        parameters: &[
            ("topic", "$request.path.topic"),
            ("key", "$request.path.key"),
        ],
    },
];

/// Returns the routes and the document that describes them.
///
/// # Panics
///
/// Never: a test makes the document, which does not depend on anything else.
pub(super) fn routes() -> (Router<ApiState>, utoipa::openapi::OpenApi) {
    let (router, mut document) = router().split_for_parts();
    edge::openapi::complete(&mut document, LEADS)
        .expect("each lead is of an operation of the document");
    (router, document)
}

fn router() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(messages::send, messages::list))
        .routes(routes!(messages::send_batch))
        .routes(routes!(messages::recall))
        .routes(routes!(messages::reschedule))
        .routes(routes!(messages::deliver))
        .routes(routes!(deliveries::receive))
        .routes(routes!(deliveries::ack))
        .routes(routes!(deliveries::retry))
        .routes(routes!(deliveries::hide))
        .routes(routes!(deliveries::dead_letter))
        .routes(routes!(timers::set, timers::show, timers::cancel))
        .routes(routes!(topics::create, topics::list))
        .routes(routes!(topics::show, topics::change, topics::delete))
        .routes(routes!(topics::histogram))
        .routes(routes!(topics::groups))
        .routes(routes!(groups::create, groups::list))
        .routes(routes!(groups::show, groups::change, groups::delete))
        .routes(routes!(groups::show_pair, groups::unsubscribe))
        .routes(routes!(groups::reset))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::replay))
        .routes(routes!(dead_letters::purge))
        .routes(routes!(transactions::list))
        .routes(routes!(transactions::show))
        .routes(routes!(transactions::commit))
        .routes(routes!(transactions::rollback))
        .routes(routes!(transactions::check))
        .routes(routes!(health::show_broker))
        .routes(routes!(health::connections))
        .routes(routes!(edge::health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::show_metrics))
}

/// Returns the OpenAPI 3.1 document of the API.
pub fn openapi_document() -> utoipa::openapi::OpenApi {
    routes().1
}
