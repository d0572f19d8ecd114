//! Runs statements through sqlx.

use std::sync::Arc;

use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{Column as _, Row as _, Sqlite, TypeInfo as _, ValueRef as _};

use crate::store::sql::{DbError, DbErrorKind, Executor, Query, Row, Value};

/// A connection, that of the open transaction above all.
#[derive(Debug)]
pub(crate) struct Connection(SqliteConnection);

/// Connections that read committed data.
#[derive(Clone, Debug)]
pub(crate) struct Readers(SqlitePool);

impl Connection {
    /// Wraps an open connection.
    pub(in crate::store) fn new(connection: SqliteConnection) -> Self {
        Self(connection)
    }

    /// Opens a database that refuses nothing, for tests of what finds such damage.
    #[cfg(test)]
    pub(crate) async fn open_unchecked(path: &std::path::Path) -> Result<Self, DbError> {
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(false)
            .pragma("ignore_check_constraints", "on");
        let connection = sqlx::ConnectOptions::connect(&options).await?;
        Ok(Self(connection))
    }

    /// Runs several statements without parameters.
    #[cfg(test)]
    pub(crate) async fn batch(&mut self, text: &str) -> Result<(), DbError> {
        let text = sqlx::AssertSqlSafe(text.to_owned());
        sqlx::raw_sql(text).execute(&mut self.0).await?;
        Ok(())
    }

    /// Closes the connection, which folds the write-ahead log into the file.
    pub(in crate::store) async fn close(self) -> Result<(), DbError> {
        sqlx::Connection::close(self.0).await?;
        Ok(())
    }
}

impl Readers {
    /// Wraps open connections.
    pub(in crate::store) fn new(pool: SqlitePool) -> Self {
        Self(pool)
    }

    /// Closes the connections; those that wait for one fail.
    pub(crate) async fn close(&self) {
        self.0.close().await;
    }
}

/// The statement as sqlx runs it.
fn prepared(query: Query) -> sqlx::query::Query<'static, Sqlite, SqliteArguments> {
    let text = sqlx::AssertSqlSafe(query.text.into_owned());
    let mut prepared = sqlx::query(text);
    for value in query.values {
        prepared = match value {
            Value::Null => prepared.bind(None::<i64>),
            Value::Integer(integer) => prepared.bind(integer),
            Value::Real(real) => prepared.bind(real),
            Value::Text(text) => prepared.bind(text),
            Value::Blob(blob) => prepared.bind(blob),
        };
    }
    prepared
}

fn rows_of(found: &[SqliteRow]) -> Result<Vec<Row>, DbError> {
    let Some(first) = found.first() else {
        return Ok(Vec::new());
    };
    let columns = first.columns().iter();
    let names: Arc<[String]> = columns.map(|column| column.name().to_owned()).collect();
    let mut rows = Vec::with_capacity(found.len());
    for row in found {
        let values = (0..names.len()).map(|index| value_of(row, index));
        rows.push(Row {
            names: Arc::clone(&names),
            values: values.collect::<Result<_, _>>()?,
        });
    }
    Ok(rows)
}

fn value_of(row: &SqliteRow, index: usize) -> Result<Value, DbError> {
    let raw = row.try_get_raw(index)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let kind = raw.type_info();
    Ok(match kind.name() {
        "TEXT" => Value::Text(row.try_get_unchecked(index)?),
        "BLOB" => Value::Blob(row.try_get_unchecked(index)?),
        "REAL" => Value::Real(row.try_get_unchecked(index)?),
        _ => Value::Integer(row.try_get_unchecked(index)?),
    })
}

impl Executor for &mut Connection {
    async fn execute(self, query: Query) -> Result<u64, DbError> {
        let done = prepared(query).execute(&mut self.0).await?;
        Ok(done.rows_affected())
    }

    async fn rows(self, query: Query) -> Result<Vec<Row>, DbError> {
        rows_of(&prepared(query).fetch_all(&mut self.0).await?)
    }
}

impl Executor for &Readers {
    async fn execute(self, query: Query) -> Result<u64, DbError> {
        let done = prepared(query).execute(&self.0).await?;
        Ok(done.rows_affected())
    }

    async fn rows(self, query: Query) -> Result<Vec<Row>, DbError> {
        rows_of(&prepared(query).fetch_all(&self.0).await?)
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        let unique = error
            .as_database_error()
            .is_some_and(sqlx::error::DatabaseError::is_unique_violation);
        let kind = match error {
            _ if unique => DbErrorKind::Unique,
            sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Io(_) => DbErrorKind::Unavailable,
            _ => DbErrorKind::Other,
        };
        let text = error.to_string();
        Self { kind, text }
    }
}
