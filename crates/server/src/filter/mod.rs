//! Filters messages by their properties.

mod rule;
mod sql;

pub use self::sql::{FilterError, SqlFilter};
