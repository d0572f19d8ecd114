//! Provides statements, rows and errors of SQL to the store, whichever library runs them.
//!
//! A statement is `query(text).bind(value)...` and is run on the connection of the open transaction, where its future
//! ends at the first poll, or on the readers.

mod connection;
mod error;
mod readers;
mod value;

use std::borrow::Cow;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

pub(crate) use connection::Connection;
pub(super) use connection::Synchronous;
pub(crate) use readers::Readers;
pub(crate) use value::{FromValue, IntoValue, Value};

pub use error::{DbError, DbErrorKind};

/// A boxed future of an operation.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A statement with its bound values.
#[derive(Debug)]
pub(crate) struct Query {
    text: Cow<'static, str>,
    values: Vec<Value>,
}

/// A statement whose rows have one column of interest, the first.
#[derive(Debug)]
pub(crate) struct QueryScalar<T> {
    query: Query,
    column: PhantomData<fn() -> T>,
}

/// What a statement that answers no rows has done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    rows_affected: u64,
}

/// A row of a result.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The names of the columns, shared by the rows of a result.
    names: Arc<[String]>,
    values: Vec<Value>,
}

/// What runs statements: the connection of the open transaction, or the readers.
pub(crate) trait Executor: Send {
    /// Runs the statement; answers how many rows it has changed.
    fn execute(self, query: Query) -> impl Future<Output = Result<u64, DbError>> + Send;

    /// Runs the statement; answers its rows.
    fn rows(self, query: Query) -> impl Future<Output = Result<Vec<Row>, DbError>> + Send;
}

/// The result of a future that waits for nothing but statements on a connection of its own.
pub(super) fn at_once<T, E: From<DbError>>(
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    match future.as_mut().poll(&mut context) {
        Poll::Ready(done) => done,
        // A defect of the operation.
        Poll::Pending => {
            tracing::error!("an operation on the database waited for something else");
            Err(DbError::other("an operation waited for something else").into())
        }
    }
}

/// A statement; its values are bound in the order of its parameters.
pub(crate) fn query(text: impl Into<Cow<'static, str>>) -> Query {
    Query {
        text: text.into(),
        values: Vec::new(),
    }
}

/// A statement that answers one value, or one in each row.
pub(crate) fn query_scalar<T: FromValue>(text: impl Into<Cow<'static, str>>) -> QueryScalar<T> {
    QueryScalar {
        query: query(text),
        column: PhantomData,
    }
}

impl Query {
    /// Binds the next parameter.
    pub(crate) fn bind(mut self, value: impl IntoValue) -> Self {
        self.values.push(value.into_value());
        self
    }

    /// Runs a statement that answers no rows.
    pub(crate) async fn execute(self, executor: impl Executor) -> Result<Done, DbError> {
        let rows_affected = executor.execute(self).await?;
        Ok(Done { rows_affected })
    }

    /// The one row that the statement always has.
    pub(crate) async fn fetch_one(self, executor: impl Executor) -> Result<Row, DbError> {
        let row = self.fetch_optional(executor).await?;
        row.ok_or_else(|| DbError::other("a statement that always has a row had none"))
    }

    /// The first row, if there is one.
    pub(crate) async fn fetch_optional(
        self,
        executor: impl Executor,
    ) -> Result<Option<Row>, DbError> {
        let rows = executor.rows(self).await?;
        Ok(rows.into_iter().next())
    }

    /// All rows.
    pub(crate) async fn fetch_all(self, executor: impl Executor) -> Result<Vec<Row>, DbError> {
        executor.rows(self).await
    }
}

impl<T: FromValue> QueryScalar<T> {
    /// Binds the next parameter.
    pub(crate) fn bind(mut self, value: impl IntoValue) -> Self {
        self.query = self.query.bind(value);
        self
    }

    /// The value of the one row that the statement always has.
    pub(crate) async fn fetch_one(self, executor: impl Executor) -> Result<T, DbError> {
        self.query.fetch_one(executor).await?.value(0)
    }

    /// The value of the first row, if there is one.
    pub(crate) async fn fetch_optional(
        self,
        executor: impl Executor,
    ) -> Result<Option<T>, DbError> {
        let row = self.query.fetch_optional(executor).await?;
        row.map(|row| row.value(0)).transpose()
    }

    /// The value of each row.
    pub(crate) async fn fetch_all(self, executor: impl Executor) -> Result<Vec<T>, DbError> {
        let rows = self.query.fetch_all(executor).await?;
        rows.iter().map(|row| row.value(0)).collect()
    }
}

impl Done {
    /// How many rows the statement has changed.
    pub(crate) fn rows_affected(self) -> u64 {
        self.rows_affected
    }
}

impl Row {
    /// The value of a column by name.
    pub(crate) fn get<T: FromValue>(&self, name: &str) -> Result<T, DbError> {
        let index = self.names.iter().position(|column| column == name);
        let index = index.ok_or_else(|| DbError::other(format!("there is no column `{name}`")))?;
        self.value(index)
    }

    /// The value of a column by its place.
    fn value<T: FromValue>(&self, index: usize) -> Result<T, DbError> {
        let value = self.values.get(index).unwrap_or(&Value::Null);
        T::from_value(value).ok_or_else(|| {
            let name = self.names.get(index).map_or("?", String::as_str);
            let found = value.type_name();
            let wanted = std::any::type_name::<T>();
            DbError::other(format!(
                "column `{name}` has a value of type {found} that is no {wanted}"
            ))
        })
    }
}
