//! Reads bodies with messages, pages of names, and cursors; [`edge::extract`] reads the rest of a request.

use std::sync::Arc;

use axum::body::HttpBody as _;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use broker::{MessageHandle, Place};
use edge::budget::Connection;
use edge::extract::{PageRows, parse_json, read_body, require_json};
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::ApiState;
use super::limits::{MESSAGE_REQUEST_BYTES_MAX, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX};
use super::problem::Problem;

pub(super) use edge::extract::{Created, Names, OptionalJson, Page, StrictJson, StrictQuery};

/// A JSON body that carries messages, which may be large.
pub(super) struct MessageJson<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<ApiState> for MessageJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        require_json(request.headers())?;
        let announced = request.body().size_hint().upper();
        let expected = announced.and_then(|bytes| usize::try_from(bytes).ok());
        let expected = std::cmp::min(
            expected.unwrap_or(MESSAGE_REQUEST_BYTES_MAX),
            MESSAGE_REQUEST_BYTES_MAX,
        );
        // Held while the body and the parsed value are both in memory.
        let connection = request.extensions().get::<Arc<Connection>>().cloned();
        let _place = state.admission().body(connection.as_deref(), expected)?;
        let bytes = read_body(request, state, MESSAGE_REQUEST_BYTES_MAX).await?;
        parse_json(&bytes).map(Self)
    }
}

/// A page of a list of names.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// `next_cursor` of the previous page.
    pub(super) cursor: Option<String>,
    /// The maximum number of items on the page, 1 to 200; 50 by default.
    pub(super) limit: Option<usize>,
}

/// Returns the number of rows of a page.
pub(super) fn page_limit(asked: Option<usize>) -> Result<usize, Problem> {
    let rows = PageRows {
        default: PAGE_ROWS_DEFAULT,
        max: PAGE_ROWS_MAX,
    };
    rows.limit(asked)
}

/// Returns the page of sorted names that follow the name `cursor`.
pub(super) fn page_of_names(
    names: Vec<String>,
    cursor: Option<&str>,
    limit: usize,
) -> Page<String> {
    let start = cursor.map_or(0, |cursor| {
        names.partition_point(|name| name.as_str() <= cursor)
    });
    let more = names.len() > start.saturating_add(limit);
    let items: Vec<_> = names.into_iter().skip(start).take(limit).collect();
    let next_cursor = items.last().filter(|_| more).cloned();
    Page { items, next_cursor }
}

/// Returns the place of a cursor.
pub(super) fn place_of_cursor(cursor: &str) -> Result<Place, Problem> {
    let handle: MessageHandle = cursor.parse().map_err(|_| {
        let detail = "cursor is not valid; pass next_cursor unchanged";
        Problem::parameter("cursor", detail)
    })?;
    Ok(handle.place)
}

/// Encodes a name as a segment of a path.
pub(super) fn segment(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.extend(["%", &format!("{byte:02X}")]);
        }
    }
    text
}

/// The answer to a deletion: what was lost with it, or nothing.
pub(super) struct Deleted<T>(pub(super) Option<T>);

impl<T: Serialize> IntoResponse for Deleted<T> {
    fn into_response(self) -> Response {
        match self.0 {
            Some(lost) => axum::Json(lost).into_response(),
            None => StatusCode::NO_CONTENT.into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_names_continue_after_the_cursor() {
        let names = || ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        let page = page_of_names(names(), None, 2);
        assert_eq!(page.items, ["a", "b"]);
        assert_eq!(page.next_cursor.as_deref(), Some("b"));
        // A name that was deleted meanwhile is a valid cursor too.
        let page = page_of_names(names(), Some("bb"), 2);
        assert_eq!(
            (page.items, page.next_cursor),
            (vec!["c".to_owned(), "d".to_owned()], None)
        );
        assert!(page_of_names(names(), Some("z"), 2).items.is_empty());
    }

    #[test]
    fn names_are_written_safely_into_paths() {
        assert_eq!(segment("%DLQ%a|b.c/d"), "%25DLQ%25a%7Cb.c%2Fd");
    }
}
