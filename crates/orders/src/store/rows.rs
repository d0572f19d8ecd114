//! Reads columns of rows and binds lists of ids.

use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};
use uuid::Uuid;

use crate::error::{Error, Result};

/// The value of a column by name.
pub(crate) fn column<'r, T>(row: &'r SqliteRow, name: &'static str) -> Result<T>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
{
    row.try_get(name).map_err(Error::Database)
}

/// The form in which an id stands in a JSON list that a statement unpacks with `unhex(value)`.
pub(crate) fn hex_key(id: Uuid) -> String {
    id.simple().to_string()
}

/// A JSON list of ids, to be unpacked with `unhex(value)`: SQLite binds no arrays.
pub(crate) fn hex_json(ids: impl IntoIterator<Item = Uuid>) -> String {
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
