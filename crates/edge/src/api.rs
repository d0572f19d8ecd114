//! Defines what the shared parts ask of the state of an API, and puts them around its routes.

use std::time::Duration;

use axum::Router;
use axum::middleware;
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;

use crate::admission::RequestLimit;
use crate::metrics::RequestMetrics;
use crate::problem::{self, Kind};
use crate::{envelope, openapi};

/// The state of an API: what its handlers work with. Clones share everything.
pub trait Api: Clone + Send + Sync + 'static {
    /// The kinds of problems it answers.
    type Kind: Kind;
    /// Largest body of a request, in bytes, unless an operation has its own limit.
    const BODY_BYTES_MAX: usize;

    /// The limit on requests under way.
    fn requests(&self) -> &RequestLimit;

    /// The metrics of its requests.
    fn request_metrics(&self) -> &RequestMetrics;

    /// How long a request may take, its body included, before it is answered with an error.
    fn request_timeout(&self) -> Duration;
}

/// The service of an API: its routes, the OpenAPI `document`, the explanations of its problems, and the envelope.
pub fn app<S: Api>(routes: Router<S>, document: &OpenApi, state: S) -> Router {
    let routes = routes
        .route("/openapi.json", get(openapi::handler(document)))
        .route("/problems/{code}", get(problem::explain::<S::Kind>));
    enveloped(routes, state)
}

/// Puts around the routes what all of them have in common.
pub fn enveloped<S: Api>(routes: Router<S>, state: S) -> Router {
    routes
        .fallback(envelope::no_such_path::<S::Kind>)
        .method_not_allowed_fallback(envelope::no_such_method::<S::Kind>)
        .layer(CatchPanicLayer::custom(envelope::panicked::<S::Kind>))
        .layer(middleware::from_fn_with_state(
            state.clone(),
            envelope::envelope::<S>,
        ))
        .with_state(state)
}
