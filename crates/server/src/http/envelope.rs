//! Provides what surrounds every request: its id, a place among the requests under way, a time limit, figures.

use std::any::Any;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use broker::clock::Stopwatch;
use http::{HeaderName, HeaderValue, Method, Uri};
use uuid::Uuid;

use super::ApiState;
use super::limits::REQUEST_ID_BYTES_MAX;
use super::problem::{Cause, Problem, ProblemKind};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Characters of a path that are shown in an error.
const PATH_CHARS_MAX: usize = 200;

/// Runs a request: gives it an id, refuses it if there are too many, ends it if it takes too long.
pub(super) async fn envelope(
    State(state): State<ApiState>,
    request: Request,
    next: Next,
) -> Response {
    let since = Stopwatch::start();
    let request_id = request_id(&request);
    let method = request.method().clone();
    // The route and not the path, so that the figures have few labels.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let mut response = match state.admission().request() {
        Ok(_place) => {
            let limit = state.settings().limits.request;
            broker::clock::monotonic::timeout(limit, next.run(request))
                .await
                .unwrap_or_else(|_| timed_out(limit))
        }
        Err(problem) => problem.into_response(),
    };
    if let Some(Cause(cause)) = response.extensions().get() {
        let id = request_id.to_str().unwrap_or_default();
        let status = response.status().as_u16();
        tracing::error!(request_id = id, %method, route, status, cause, "answer a request");
    }
    response.headers_mut().insert(REQUEST_ID, request_id);
    let requests = &state.shared.requests;
    requests.note(&method, route, response.status(), since.elapsed());
    response
}

/// The caller's id of the request if it is one, or a new one.
fn request_id(request: &Request) -> HeaderValue {
    let given = request.headers().get(REQUEST_ID).filter(|value| {
        let visible = value.as_bytes().iter().all(u8::is_ascii_graphic);
        (1..=REQUEST_ID_BYTES_MAX).contains(&value.len()) && visible
    });
    given.cloned().unwrap_or_else(|| {
        let id = format!("req_{}", Uuid::now_v7().simple());
        HeaderValue::from_str(&id).expect("hexadecimal digits are visible ASCII characters")
    })
}

fn timed_out(limit: Duration) -> Response {
    let detail = format!("the request was not done within {limit:?}");
    Problem::new(ProblemKind::TimedOut, detail)
        .retry_after(1)
        .into_response()
}

/// Answers a path that the API does not have.
pub(super) async fn no_such_path(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(PATH_CHARS_MAX).collect();
    let detail = format!("the API has no path `{path}`; /openapi.json lists those it has");
    Problem::new(ProblemKind::NotFound, detail)
}

/// Answers a method that the path does not take.
pub(super) async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(PATH_CHARS_MAX).collect();
    let detail = format!("`{path}` does not take {method}");
    Problem::new(ProblemKind::MethodNotAllowed, detail)
}

/// Answers a request whose handler panicked; the panic hook has told where.
pub(super) fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    let detail = "the request failed on our side; the log has the cause under its X-Request-Id";
    Problem::new(ProblemKind::Internal, detail)
        .cause("the handler panicked".to_owned())
        .into_response()
}
