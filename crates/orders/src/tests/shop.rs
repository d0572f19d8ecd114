//! A shop to test with: one merchant, products, a clock moved by hand.

use std::sync::Arc;

use broker::clock::ManualClock;
use tempfile::TempDir;

use crate::gateway::Gateways;
use crate::{
    Config, Deadline, MerchantId, NewLine, NewOrder, NewProduct, Order, Platform, Product,
    ProductId, Running,
};

/// When the tests begin, in ms since the Unix epoch.
pub(crate) const START_MS: u64 = 1_800_000_000_000;

/// A shop and what it runs on.
pub(crate) struct Shop {
    pub(crate) clock: ManualClock,
    pub(crate) merchant: MerchantId,
    running: Running,
    folder: TempDir,
}

impl Shop {
    /// A shop without any task but the writer.
    pub(crate) async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(START_MS);
        Self::open_in(folder, clock).await
    }

    async fn open_in(folder: TempDir, clock: ManualClock) -> Self {
        let config = Config::new(folder.path().join("orders.db"));
        let running = Running::open(config, Arc::new(clock.clone()), Gateways::default())
            .await
            .unwrap();
        running.platform.ensure_default_merchant().await.unwrap();
        Self {
            clock,
            merchant: MerchantId::fallback(),
            running,
            folder,
        }
    }

    /// The same shop after a stop and a start.
    pub(crate) async fn reopen(self) -> Self {
        self.running.stop().await;
        Self::open_in(self.folder, self.clock).await
    }

    pub(crate) fn platform(&self) -> &Platform {
        &self.running.platform
    }

    pub(crate) async fn product(&self, stock: i64) -> Product {
        let new = NewProduct {
            name: "Tea".to_owned(),
            price_minor: 500,
            currency: "EUR".parse().unwrap(),
            stock,
        };
        let created = self
            .platform()
            .create_product(&self.merchant, new, None)
            .await;
        created.unwrap().value
    }

    /// An order of `quantity` units with a deadline `after_ms` ahead.
    pub(crate) fn new_order(number: &str, product_id: ProductId, quantity: i64) -> NewOrder {
        NewOrder {
            merchant_order_no: number.to_owned(),
            buyer_id: "buyer-1".to_owned(),
            lines: vec![NewLine {
                product_id,
                quantity,
            }],
            coupon_id: None,
            deadline: Deadline::AfterMs(10_000),
        }
    }

    pub(crate) async fn order(&self, number: &str, product: &Product, quantity: i64) -> Order {
        let new = Self::new_order(number, product.id, quantity);
        let created = self
            .platform()
            .create_order(&self.merchant, new, None)
            .await;
        created.unwrap().value
    }

    pub(crate) async fn available(&self, product: &Product) -> i64 {
        let found = self.platform().product(&self.merchant, product.id).await;
        found.unwrap().available
    }
}
