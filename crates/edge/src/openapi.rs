//! Serves the OpenAPI document of an API.

use std::future::{Ready, ready};

use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use utoipa::openapi::OpenApi;

/// Returns a handler that answers with the document.
///
/// # Panics
///
/// Never: the document is made of texts and maps, which are always JSON.
pub fn handler(
    document: &OpenApi,
) -> impl Fn() -> Ready<Response> + Clone + Send + Sync + 'static + use<> {
    let text = document
        .to_pretty_json()
        .expect("the document is made of texts and maps, which are always JSON");
    let text = Bytes::from(text);
    move || {
        let headers = [(CONTENT_TYPE, "application/json")];
        ready((headers, text.clone()).into_response())
    }
}
