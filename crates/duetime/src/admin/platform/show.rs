//! Shows objects of the order platform's API as text.

use serde_json::Value;

use super::super::api::List;
use super::super::format::{Align, View, fields, table, text};
use super::super::session::Session;
use crate::failure::Failure;

/// A member of an object as text: an instant as local time, an amount with its currency.
pub(super) fn member(object: &Value, name: &str, view: &View) -> String {
    let value = object.get(name);
    if let (Some(amount), true) = (value.and_then(Value::as_i64), name.ends_with("_minor")) {
        let currency = object.get("currency").and_then(Value::as_str);
        return currency.map_or_else(|| amount.to_string(), |code| format!("{amount} {code}"));
    }
    let is_instant = name.ends_with("_at") || name == "deadline" || name == "since" || name == "at";
    if is_instant {
        return view.instant(value);
    }
    text(value)
}

/// The members of an object that it has, one a line.
pub(super) fn members(object: &Value, names: &[&str], view: &View) -> String {
    let has = |name: &&&str| object.get(**name).is_some_and(|value| !value.is_null());
    let labels: Vec<String> = names
        .iter()
        .filter(has)
        .map(|name| name.replace('_', " ").replace(" minor", ""))
        .collect();
    let values = names.iter().filter(has);
    let rows: Vec<(&str, String)> = labels
        .iter()
        .map(String::as_str)
        .zip(values.map(|name| member(object, name, view)))
        .collect();
    fields(&rows)
}

/// Objects as a table of these members.
pub(super) fn rows<const N: usize>(items: &[Value], names: [&str; N], view: &View) -> String {
    let titles = names.map(|name| name.replace('_', " ").replace(" minor", "").to_uppercase());
    let is_number = |name: &str| name.ends_with("_minor") || NUMBERS.contains(&name);
    let align = names.map(|name| {
        if is_number(name) {
            Align::Right
        } else {
            Align::Left
        }
    });
    let mut heads = [("", Align::Left); N];
    for ((head, title), align) in heads.iter_mut().zip(&titles).zip(align) {
        *head = (title.as_str(), align);
    }
    let row = |item: &Value| names.map(|name| member(item, name, view));
    table(heads, items.iter().map(row).collect())
}

/// Members that are numbers.
const NUMBERS: [&str; 7] = [
    "available",
    "stocked",
    "quantity",
    "reports",
    "version",
    "seq",
    "line_no",
];

/// Prints a list as a table of these members.
pub(super) fn list<const N: usize>(
    session: &Session,
    list: &List,
    names: [&str; N],
) -> Result<(), Failure> {
    session.print_list(list, |view| rows(&list.items, names, view))
}

/// Prints an object, some of its members one a line.
pub(super) fn object(session: &Session, object: &Value, names: &[&str]) -> Result<(), Failure> {
    session.print(object, |view| members(object, names, view))
}

/// Notes that something was done, and the state it led to.
pub(super) fn state(session: &Session, what: &str, object: &Value) -> Result<(), Failure> {
    session.done(object, |_| {
        format!("{what} is {}", text(object.get("state")))
    })
}
