//! Reads when every order was created, was due and was settled, for comparisons with other ways to close orders.

use crate::error::Result;
use crate::platform::Platform;
use crate::store::rows::column;
use crate::store::sql::query;

/// The instants of an order, in ms since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderTimes {
    /// When it was created.
    pub created_ms: i64,
    /// Its deadline.
    pub deadline_ms: i64,
    /// When it was paid or cancelled; `None` if it is open or was closed by timeout.
    pub settled_ms: Option<i64>,
}

impl Platform {
    /// The instants of every order, in the order of their ids. Reads the whole table: not for requests.
    pub async fn order_history(&self) -> Result<Vec<OrderTimes>> {
        let rows = query(
            "select created_ms, deadline_ms,
                    coalesce(paid_ms, case when close_reason <> 1 then closed_ms end) as settled_ms
             from orders order by id",
        )
        .fetch_all(self.readers())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(OrderTimes {
                    created_ms: column(row, "created_ms")?,
                    deadline_ms: column(row, "deadline_ms")?,
                    settled_ms: column(row, "settled_ms")?,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::CloseReason;
    use crate::tests::shop::Shop;

    #[tokio::test]
    async fn only_an_order_settled_by_its_buyer_has_that_instant() {
        let shop = Shop::open().await;
        let tea = shop.product(10).await;
        let open = shop.order("A-1", &tea, 1).await;
        let cancelled = shop.order("A-2", &tea, 1).await;
        shop.platform()
            .cancel_order(&shop.merchant, cancelled.id, CloseReason::Buyer)
            .await
            .unwrap();
        let history = shop.platform().order_history().await.unwrap();
        assert_eq!(history.len(), 2);
        let [first, second] = [&history[0], &history[1]];
        assert!(first.created_ms < first.deadline_ms);
        assert_eq!(first.settled_ms, None, "{open:?}");
        assert!(second.settled_ms.is_some_and(|ms| ms >= second.created_ms));
    }
}
