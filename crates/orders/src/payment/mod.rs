//! Starts payment attempts, asks gateways about them, and records the money that comes.

pub(crate) mod attempt;
mod callback;
pub(crate) mod poll;
pub(crate) mod record;
pub(crate) mod start;
pub(crate) mod unmatched;

use crate::error::Result;
use crate::ids::{AttemptId, MerchantId, OrderId};
use crate::model::payment::{Attempt, Payment};
use crate::platform::Platform;
use crate::store::payments;

impl Platform {
    /// The payment attempt.
    pub async fn attempt(&self, merchant_id: &MerchantId, id: AttemptId) -> Result<Attempt> {
        payments::attempt(self.readers(), merchant_id, id).await
    }

    /// The order's payment attempts, oldest first.
    pub async fn attempts(
        &self,
        merchant_id: &MerchantId,
        order_id: OrderId,
    ) -> Result<Vec<Attempt>> {
        payments::attempts_of_order(self.readers(), merchant_id, order_id).await
    }

    /// All money that came for the order, oldest first.
    pub async fn payments(
        &self,
        merchant_id: &MerchantId,
        order_id: OrderId,
    ) -> Result<Vec<Payment>> {
        payments::payments_of_order(self.readers(), merchant_id, order_id).await
    }
}
