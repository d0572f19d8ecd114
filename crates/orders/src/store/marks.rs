//! Stores marks: numbers that the platform goes on from after a restart.

use crate::error::Result;
use crate::store::sql::{query, query_scalar};
use crate::store::tx::Tx;

/// The number of the last walk over parked timers.
pub(crate) const LAST_WALK: &str = "last_walk";
/// Up to when released timers are spread, in ms since the Unix epoch.
pub(crate) const PACED_UNTIL_MS: &str = "paced_until_ms";

/// The number under the name, if there is one.
pub(crate) async fn get(tx: &mut Tx, name: &str) -> Result<Option<i64>> {
    let value = query_scalar("select value from mark where name = ?")
        .bind(name)
        .fetch_optional(tx.conn())
        .await?;
    Ok(value)
}

/// Sets the number under the name.
pub(crate) async fn set(tx: &mut Tx, name: &str, value: i64) -> Result<()> {
    query(
        "insert into mark (name, value) values (?, ?)
         on conflict (name) do update set value = excluded.value",
    )
    .bind(name)
    .bind(value)
    .execute(tx.conn())
    .await?;
    Ok(())
}
