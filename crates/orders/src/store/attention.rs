//! Counts what needs an operator.

use crate::error::Result;
use crate::store::rows::column;
use crate::store::sql::{Readers, query};

/// Each kind of thing that may need an operator, with the number of those that do.
///
/// The counts take partial indexes, so they cost as much as there is to count. The planner prefers another index for
/// refunds, hence the hint.
pub(crate) async fn count(readers: &Readers) -> Result<[(&'static str, i64); 5]> {
    let row = query(
        "select
           (select count(*) from refund indexed by refund_needs_operator where state = 6) as refund,
           (select count(*) from refund indexed by refund_beyond where state = 4 and released = 1) as refund_beyond,
           (select count(*) from attempt where state = 6) as attempt,
           (select count(*) from orders where needs_operator_ms is not null) as orders,
           (select count(*) from unmatched_payment where state = 1) as unmatched_payment",
    )
    .fetch_one(readers)
    .await?;
    Ok([
        ("refund", column(&row, "refund")?),
        ("refund_beyond", column(&row, "refund_beyond")?),
        ("attempt", column(&row, "attempt")?),
        ("order", column(&row, "orders")?),
        ("unmatched_payment", column(&row, "unmatched_payment")?),
    ])
}
