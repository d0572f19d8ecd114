//! Runs statements through rusqlite, on the thread that calls.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE, SQLITE_IOERR_SHMSIZE};
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{ErrorCode, OpenFlags};

use crate::store::sql::{DbError, DbErrorKind, Executor, Query, Row, Value};

/// Memory for pages of each connection, in KiB.
const CACHE_KIB: i64 = 32_768;
/// How long a connection waits for another process that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements kept per connection: all that the platform has.
const STATEMENTS: usize = 512;

thread_local! {
    /// What SQLite said after the last commit: its callback has no other place to put it.
    static LOG_PAGES: Cell<u32> = const { Cell::new(0) };
}

/// How much of what was committed survives power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Synchronous {
    /// Everything.
    Full,
    /// All but the end; the file stays valid.
    Normal,
}

/// A connection, used by one thread at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    inner: rusqlite::Connection,
    /// The names of the columns of each statement that has answered rows.
    names: HashMap<&'static str, Arc<[String]>>,
}

impl Connection {
    /// Opens a connection that writes; makes the file if need be. It never folds the write-ahead log by itself.
    pub(in crate::store) fn open(path: &Path, synchronous: Synchronous) -> Result<Self, DbError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let connection = Self::open_with(path, flags)?;
        let synchronous = match synchronous {
            Synchronous::Full => "full",
            Synchronous::Normal => "normal",
        };
        let inner = &connection.inner;
        inner.pragma_update(None, "journal_mode", "wal")?;
        inner.pragma_update(None, "synchronous", synchronous)?;
        inner.pragma_update(None, "foreign_keys", true)?;
        inner.pragma_update(None, "wal_autocheckpoint", 0)?;
        Ok(connection)
    }

    /// Opens a connection that reads committed data.
    pub(super) fn open_to_read(path: &Path) -> Result<Self, DbError> {
        Self::open_with(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    fn open_with(path: &Path, flags: OpenFlags) -> Result<Self, DbError> {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let inner = rusqlite::Connection::open_with_flags(path, flags)?;
        inner.busy_timeout(BUSY_TIMEOUT)?;
        inner.set_prepared_statement_cache_capacity(STATEMENTS);
        inner.pragma_update(None, "cache_size", -CACHE_KIB)?;
        Ok(Self {
            inner,
            names: HashMap::new(),
        })
    }

    /// Opens a database that refuses nothing, for tests of what finds such damage.
    #[cfg(test)]
    pub(crate) fn open_unchecked(path: &Path) -> Result<Self, DbError> {
        let connection = Self::open_with(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let inner = &connection.inner;
        inner.pragma_update(None, "foreign_keys", false)?;
        inner.pragma_update(None, "ignore_check_constraints", true)?;
        Ok(connection)
    }

    /// Runs several statements without parameters.
    pub(crate) fn run_all(&mut self, text: &str) -> Result<(), DbError> {
        Ok(self.inner.execute_batch(text)?)
    }

    /// Runs a statement without parameters.
    pub(in crate::store) fn run(&mut self, text: &'static str) -> Result<(), DbError> {
        self.change(&super::query(text))?;
        Ok(())
    }

    /// From now on [`Self::log_pages`] answers for commits of this connection on this thread.
    pub(in crate::store) fn watch_log(&mut self) {
        self.inner.wal_hook(Some(|_, pages| {
            LOG_PAGES.set(u32::try_from(pages).unwrap_or(0));
            Ok(())
        }));
    }

    /// Pages in the write-ahead log after the last commit on this thread.
    pub(in crate::store) fn log_pages() -> u32 {
        LOG_PAGES.get()
    }

    /// Closes the connection.
    pub(in crate::store) fn close(self) -> Result<(), DbError> {
        self.inner.close().map_err(|(_, error)| error.into())
    }

    /// Runs a statement; answers how many rows it has changed.
    pub(in crate::store) fn change(&mut self, query: &Query) -> Result<u64, DbError> {
        let mut statement = self.inner.prepare_cached(&query.text)?;
        bind(&mut statement, &query.values)?;
        let mut rows = statement.raw_query();
        while rows.next()?.is_some() {}
        drop(rows);
        drop(statement);
        Ok(self.inner.changes())
    }

    /// Runs a statement; answers its rows.
    pub(in crate::store) fn read(&mut self, query: &Query) -> Result<Vec<Row>, DbError> {
        let mut statement = self.inner.prepare_cached(&query.text)?;
        bind(&mut statement, &query.values)?;
        let known = match &query.text {
            Cow::Borrowed(text) => self.names.get(text).cloned(),
            Cow::Owned(_) => None,
        };
        let names = known.unwrap_or_else(|| {
            let names = statement.column_names().into_iter();
            let names: Arc<[String]> = names.map(str::to_owned).collect();
            if let Cow::Borrowed(text) = query.text {
                self.names.insert(text, Arc::clone(&names));
            }
            names
        });
        let mut found = Vec::new();
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            let values = (0..names.len()).map(|index| value_of(row.get_ref(index)?));
            found.push(Row {
                names: Arc::clone(&names),
                values: values.collect::<Result<_, _>>()?,
            });
        }
        Ok(found)
    }
}

fn bind(statement: &mut rusqlite::Statement<'_>, values: &[Value]) -> Result<(), DbError> {
    for (index, value) in values.iter().enumerate() {
        statement.raw_bind_parameter(index + 1, value)?;
    }
    Ok(())
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(integer) => ValueRef::Integer(*integer),
            Self::Real(real) => ValueRef::Real(*real),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(blob) => ValueRef::Blob(blob),
        }))
    }
}

fn value_of(value: ValueRef<'_>) -> Result<Value, DbError> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Text(text) => {
            let text = std::str::from_utf8(text);
            Value::Text(
                text.map_err(|_| DbError::other("a text is not UTF-8"))?
                    .to_owned(),
            )
        }
        ValueRef::Blob(blob) => Value::Blob(blob.to_vec()),
    })
}

// The calls end at their first poll: what they wait for is the disk alone.
impl Executor for &mut Connection {
    async fn execute(self, query: Query) -> Result<u64, DbError> {
        self.change(&query)
    }

    async fn rows(self, query: Query) -> Result<Vec<Row>, DbError> {
        self.read(&query)
    }
}

impl From<rusqlite::Error> for DbError {
    fn from(error: rusqlite::Error) -> Self {
        let kind = match error.sqlite_error() {
            Some(code)
                if code.extended_code == SQLITE_CONSTRAINT_UNIQUE
                    || code.extended_code == SQLITE_CONSTRAINT_PRIMARYKEY =>
            {
                DbErrorKind::Unique
            }
            // The second one: no room for the index of the write-ahead log.
            Some(code)
                if code.code == ErrorCode::DiskFull
                    || code.extended_code == SQLITE_IOERR_SHMSIZE =>
            {
                DbErrorKind::Full
            }
            Some(code) if code.code == ErrorCode::DatabaseBusy => DbErrorKind::Unavailable,
            _ => DbErrorKind::Other,
        };
        let text = error.to_string();
        Self { kind, text }
    }
}
