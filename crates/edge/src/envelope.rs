//! Wraps every request: gives it an id, admits it, limits its time, counts it.

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clock::Stopwatch;
use http::{HeaderName, HeaderValue, Method, Uri};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;

use crate::admission::Place;
use crate::api::Api;
use crate::openapi;
use crate::problem::{self, Cause, Kind, Problem, Shared};
use crate::strict::{self, Operations};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id of a request that is taken over from the caller, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// Paths that are answered however much is under way: a supervisor restarts a server that does not answer them.
pub(crate) const PROBES: [&str; 2] = ["/healthz", "/readyz"];
/// Characters of a path that are shown in an error.
const PATH_CHARS_MAX: usize = 200;

/// Builds the service of an API: its routes, the OpenAPI `document`, the explanations of its problems, and the envelope.
pub fn app<S: Api>(routes: Router<S>, document: &OpenApi, state: S) -> Router {
    let strict = (state.clone(), Operations::of(document));
    let routes = routes
        .route_layer(middleware::from_fn_with_state(
            strict,
            strict::refuse_unread::<S>,
        ))
        .route("/openapi.json", get(openapi::handler(document)))
        .route("/problems/{code}", get(problem::explain::<S::Kind>));
    enveloped(routes, state)
}

/// Wraps the routes: request ids, limits, metrics, and the answers to unknown paths and panics.
pub fn enveloped<S: Api>(routes: Router<S>, state: S) -> Router {
    routes
        .fallback(no_such_path::<S::Kind>)
        .method_not_allowed_fallback(no_such_method::<S::Kind>)
        .layer(CatchPanicLayer::custom(panicked::<S::Kind>))
        .layer(middleware::from_fn_with_state(state.clone(), envelope::<S>))
        .with_state(state)
}

/// Runs a request: gives it an id, refuses it if there are too many, ends it if it takes too long.
async fn envelope<S: Api>(State(state): State<S>, mut request: Request, next: Next) -> Response {
    let since = Stopwatch::start();
    let request_id = request_id(&request);
    let method = request.method().clone();
    // The route and not the path, so that the metrics have few labels.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let place = if PROBES.contains(&route) {
        Ok(None)
    } else {
        state
            .requests()
            .admit::<S::Kind>()
            .map(Place::new)
            .map(Some)
    };
    let mut response = match place {
        Ok(place) => {
            // The handler may leave the place; this end keeps it until the answer otherwise.
            if let Some(place) = &place {
                request.extensions_mut().insert(place.clone());
            }
            let limit = state.request_timeout();
            let answered = clock::monotonic::timeout(limit, next.run(request)).await;
            drop(place);
            answered.unwrap_or_else(|_| timed_out::<S::Kind>(limit))
        }
        Err(problem) => problem.into_response(),
    };
    if let Some(Cause(cause)) = response.extensions().get() {
        let id = request_id.to_str().unwrap_or_default();
        let status = response.status().as_u16();
        tracing::error!(request_id = id, %method, route, status, cause, "answer a request");
    }
    response.headers_mut().insert(REQUEST_ID, request_id);
    let metrics = state.request_metrics();
    metrics.record(&method, route, response.status(), since.elapsed());
    response
}

/// Returns the caller's id of the request if it is valid, or a new one.
fn request_id(request: &Request) -> HeaderValue {
    let given = request.headers().get(REQUEST_ID).filter(|value| {
        let visible = value.as_bytes().iter().all(u8::is_ascii_graphic);
        (1..=REQUEST_ID_BYTES_MAX).contains(&value.len()) && visible
    });
    given.cloned().unwrap_or_else(|| {
        let id = format!("req_{:032x}", rand::random::<u128>());
        HeaderValue::from_str(&id).expect("hexadecimal digits are visible ASCII characters")
    })
}

fn timed_out<K: Kind>(limit: Duration) -> Response {
    let detail = format!("the request did not end within {limit:?}");
    Problem::<K>::shared(Shared::TimedOut, detail)
        .retry_after(1)
        .into_response()
}

/// Answers a path that the API does not have.
async fn no_such_path<K: Kind>(uri: Uri) -> Problem<K> {
    let path = shown(&uri);
    let detail = format!("the API has no path `{path}`; /openapi.json lists those it has");
    Problem::shared(Shared::NotFound, detail)
}

/// Answers a method that the path does not allow.
async fn no_such_method<K: Kind>(method: Method, uri: Uri) -> Problem<K> {
    let detail = format!("`{}` does not allow {method}", shown(&uri));
    Problem::shared(Shared::MethodNotAllowed, detail)
}

fn shown(uri: &Uri) -> String {
    uri.path().chars().take(PATH_CHARS_MAX).collect()
}

/// Answers a request whose handler panicked; the panic hook has logged the place.
fn panicked<K: Kind>(_: Box<dyn Any + Send + 'static>) -> Response {
    Problem::<K>::internal("the handler panicked").into_response()
}
