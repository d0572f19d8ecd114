//! Stores marks: numbers that the platform goes on from after a restart.

use crate::error::Result;
use crate::store::sql::{Connection, query, query_scalar};

/// The number of the last walk over parked timers.
pub(crate) const LAST_WALK: &str = "last_walk";
/// The last instant at which the clock could be believed, in ms since the Unix epoch.
pub(crate) const LAST_SEEN_MS: &str = "last_seen_ms";
/// Up to when released timers are spread, in ms since the Unix epoch.
pub(crate) const PACED_UNTIL_MS: &str = "paced_until_ms";

/// The number under the name, if there is one.
pub(crate) async fn get(connection: &mut Connection, name: &str) -> Result<Option<i64>> {
    let value = query_scalar("select value from mark where name = ?")
        .bind(name)
        .fetch_optional(connection)
        .await?;
    Ok(value)
}

/// Sets the number under the name.
pub(crate) async fn set(connection: &mut Connection, name: &str, value: i64) -> Result<()> {
    query(
        "insert into mark (name, value) values (?, ?)
         on conflict (name) do update set value = excluded.value",
    )
    .bind(name)
    .bind(value)
    .execute(connection)
    .await?;
    Ok(())
}
