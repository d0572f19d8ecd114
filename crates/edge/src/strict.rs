//! Refuses what an operation does not read: query parameters and bodies that its document does not have.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::{Body, HttpBody as _};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::Method;
use serde_json::Value;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn, PathItem};
use utoipa::openapi::{OpenApi, RefOr};

use crate::api::Api;
use crate::extract::read_body;
use crate::problem::{Problem, Shared};

/// Operations whose requests are checked; the others are for probes and for readers of documents.
const CHECKED: &str = "/v1/";

/// What an operation reads beside its path and its headers.
#[derive(Clone, Copy, Debug)]
struct Reads {
    query: bool,
    body: bool,
}

/// What each operation of an API reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Operations {
    reads: Arc<HashMap<(Method, String), Reads>>,
}

impl Operations {
    /// Takes it from the document of the API.
    pub(crate) fn of(document: &OpenApi) -> Self {
        let mut reads = HashMap::new();
        for (path, item) in &document.paths.paths {
            if !path.starts_with(CHECKED) {
                continue;
            }
            for (method, operation) in operations(item) {
                reads.insert((method, path.clone()), reads_of(operation));
            }
        }
        Self {
            reads: Arc::new(reads),
        }
    }

    fn reads(&self, request: &Request) -> Option<Reads> {
        let path = request.extensions().get::<MatchedPath>()?.as_str();
        let key = (request.method().clone(), path.to_owned());
        self.reads.get(&key).copied()
    }
}

fn operations(item: &PathItem) -> impl Iterator<Item = (Method, &Operation)> {
    let all = [
        (Method::GET, &item.get),
        (Method::POST, &item.post),
        (Method::PUT, &item.put),
        (Method::PATCH, &item.patch),
        (Method::DELETE, &item.delete),
    ];
    all.into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
}

fn reads_of(operation: &Operation) -> Reads {
    let mut parameters = operation.parameters.iter().flatten();
    let is_of_query = |parameter: &RefOr<Parameter>| match parameter {
        RefOr::T(parameter) => parameter.parameter_in == ParameterIn::Query,
        RefOr::Ref(_) => true,
    };
    Reads {
        query: parameters.any(is_of_query),
        body: operation.request_body.is_some(),
    }
}

/// Refuses a query string or a body that the operation would ignore: a caller who sends one means something by it.
pub(crate) async fn refuse_unread<S: Api>(
    State((state, operations)): State<(S, Operations)>,
    request: Request,
    next: Next,
) -> Response {
    let Some(reads) = operations.reads(&request) else {
        return next.run(request).await;
    };
    let query = request.uri().query().unwrap_or_default();
    if !reads.query && !query.is_empty() && !is_open::<S>(&request) {
        let name = query.split(['=', '&']).next().unwrap_or_default();
        let name: String = name.chars().take(64).collect();
        let detail = format!("the parameter `{name}` is not known: this operation has none");
        return Problem::<S::Kind>::parameter(&name, detail).into_response();
    }
    if reads.body || request.body().size_hint().exact() == Some(0) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let read = read_body(Request::new(body), &state, S::BODY_BYTES_MAX).await;
    if let Err(problem) = read.and_then(|bytes| check_empty::<S>(&bytes)) {
        return problem.into_response();
    }
    next.run(Request::from_parts(parts, Body::empty())).await
}

/// Whether the operation is called by systems that add parameters of their own.
fn is_open<S: Api>(request: &Request) -> bool {
    let path = request.extensions().get::<MatchedPath>();
    path.is_some_and(|path| S::ANY_QUERY.contains(&path.as_str()))
}

/// Refuses a body with something in it; an empty object is as good as none.
fn check_empty<S: Api>(bytes: &[u8]) -> Result<(), Problem<S::Kind>> {
    if bytes.is_empty() {
        return Ok(());
    }
    let Ok(Value::Object(members)) = serde_json::from_slice(bytes) else {
        let detail = "this operation takes no body; send none";
        return Err(Problem::shared(Shared::Invalid, detail).with("pointer", ""));
    };
    match members.keys().next() {
        None => Ok(()),
        Some(name) => {
            let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            let detail = format!("unknown field `{name}`: this operation takes no body");
            Err(Problem::invalid(pointer, detail))
        }
    }
}
