//! Completes and serves the OpenAPI document of an API.

use std::collections::BTreeMap;
use std::future::{Ready, ready};

use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use utoipa::openapi::link::Link;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{OpenApi, RefOr};

/// Where the answer of an operation leads: the operations below a path that need no other parameters than it gives.
#[derive(Clone, Copy, Debug)]
pub struct Lead {
    /// The operation, as [`complete`] names it.
    pub operation: &'static str,
    /// The status of the answer.
    pub status: &'static str,
    /// What the paths of the other operations begin with.
    pub prefix: &'static str,
    /// Names of path parameters, and the OpenAPI runtime expressions that give their values.
    pub parameters: &'static [(&'static str, &'static str)],
}

/// Gives each operation a name of its own, such as `orders.payments.start`, as clients made from the document need it, and
/// writes the links of the leads.
///
/// # Errors
///
/// The name of an operation that is not the only one of that name, or of a lead that leads nowhere.
pub fn complete(document: &mut OpenApi, leads: &[Lead]) -> Result<(), String> {
    let mut names = BTreeMap::new();
    for (path, item) in &mut document.paths.paths {
        for operation in operations(item) {
            let function = operation.operation_id.take().unwrap_or_default();
            let name = name_of(path, &function);
            if names.insert(name.clone(), path.clone()).is_some() {
                return Err(name);
            }
            operation.operation_id = Some(name);
        }
    }
    leads.iter().try_for_each(|lead| {
        let is_target = |path: &str| {
            let is_given = |name: &str| lead.parameters.iter().any(|(given, _)| *given == name);
            path.starts_with(lead.prefix) && parameters_of(path).all(is_given)
        };
        let targets = names.iter().filter(|(_, path)| is_target(path));
        let targets: Vec<&String> = targets.map(|(name, _)| name).collect();
        let items = document.paths.paths.values_mut();
        let mut known = items.flat_map(operations);
        let from = known.find(|known| known.operation_id.as_deref() == Some(lead.operation));
        let answer = from.and_then(|from| from.responses.responses.get_mut(lead.status));
        match answer {
            Some(RefOr::T(answer)) if !targets.is_empty() => {
                for target in targets {
                    let link = RefOr::T(link_to(target, lead.parameters));
                    answer.links.insert(target.clone(), link);
                }
                Ok(())
            }
            _ => Err(lead.operation.to_owned()),
        }
    })
}

/// The fixed parts of the path, then the function, unless the path ends with it already.
fn name_of(path: &str, function: &str) -> String {
    let parts = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != "v1");
    let fixed: Vec<&str> = parts.filter(|part| !part.starts_with('{')).collect();
    let function = (fixed.last() != Some(&function)).then_some(function);
    fixed
        .into_iter()
        .chain(function)
        .collect::<Vec<_>>()
        .join(".")
}

fn link_to(operation: &str, parameters: &[(&str, &str)]) -> Link {
    let link = Link::builder().operation_id(operation);
    let with = parameters
        .iter()
        .fold(link, |link, (name, value)| link.parameter(*name, *value));
    with.build()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let all = [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.patch,
    ];
    all.into_iter().flatten()
}

/// The names in braces.
fn parameters_of(path: &str) -> impl Iterator<Item = &str> {
    path.split('{')
        .skip(1)
        .filter_map(|rest| Some(rest.split_once('}')?.0))
}

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
