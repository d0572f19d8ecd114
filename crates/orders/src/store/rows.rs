//! Reads columns of rows, binds lists, and explains refused inserts.

use serde::Serialize;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::ids::MerchantId;
use crate::model::stored::Stored;
use crate::money::Currency;
use crate::store::sql::{DbError, DbErrorKind, FromValue, Row};

/// The value of a column by name.
pub(super) fn column<T: FromValue>(row: &Row, name: &'static str) -> Result<T> {
    row.get(name).map_err(Error::Database)
}

/// The value of a column that stores an enum.
pub(super) fn stored_column<T: Stored>(row: &Row, name: &'static str) -> Result<T> {
    stored(column(row, name)?)
}

/// The value of a column that stores an enum or null.
pub(super) fn stored_option<T: Stored>(row: &Row, name: &'static str) -> Result<Option<T>> {
    let number: Option<i64> = column(row, name)?;
    number.map(stored).transpose()
}

fn stored<T: Stored>(number: i64) -> Result<T> {
    T::from_stored(number).ok_or_else(|| Error::Unreadable {
        what: T::WHAT,
        detail: format!("{number} is not one of its numbers"),
    })
}

/// The column `merchant_id`.
pub(super) fn merchant_column(row: &Row) -> Result<MerchantId> {
    Ok(MerchantId::from_stored(column(row, "merchant_id")?))
}

/// The column `currency`.
pub(super) fn currency_column(row: &Row) -> Result<Currency> {
    let code: String = column(row, "currency")?;
    code.parse().map_err(|_| Error::Unreadable {
        what: "currency",
        detail: code,
    })
}

/// The form of an id in a JSON list that a statement unpacks with `unhex(value)`.
pub(super) fn hex_key(id: Uuid) -> String {
    id.simple().to_string()
}

/// A JSON list of ids, to be unpacked with `unhex(value)`: SQLite binds no arrays.
pub(super) fn hex_json(ids: impl IntoIterator<Item = Uuid>) -> String {
    let mut json = String::from("[");
    for id in ids {
        if json.len() > 1 {
            json.push(',');
        }
        json.push('"');
        json.push_str(&hex_key(id));
        json.push('"');
    }
    json.push(']');
    json
}

/// A JSON list of rows or numbers, to be unpacked with `json_each`.
pub(super) fn list_json<T: Serialize>(list: &[T]) -> String {
    serde_json::to_string(list).expect("texts and numbers are always JSON")
}

/// A limit as it is bound.
pub(super) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// What a failed insert means: a UNIQUE constraint refused it, or the database failed.
pub(super) fn duplicate(error: DbError, what: &'static str, number: &str) -> Error {
    if error.kind == DbErrorKind::Unique {
        let number = number.to_owned();
        return Error::Duplicate { what, number };
    }
    error.into()
}
