//! Starts payment attempts, asks gateways about them, and records the money that comes.

pub(crate) mod attempt;
pub(crate) mod by_hand;
mod callback;
pub(crate) mod event;
pub(crate) mod missing;
pub(crate) mod poll;
pub(crate) mod record;
pub(crate) mod start;
pub(crate) mod unmatched;

use crate::error::Result;
use crate::ids::{AttemptId, MerchantId, OrderId};
use crate::model::payment::{Attempt, Payment, WaitingAttempt};
use crate::platform::Platform;
use crate::store::{orders, payments};

/// What was tried and what came to pay an order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderMoney {
    /// Its payment attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// Its payments, oldest first.
    pub payments: Vec<Payment>,
}

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

    /// Up to `limit` attempts of the merchant that wait in the state, those after `after`, oldest first.
    pub async fn waiting_attempts(
        &self,
        merchant_id: &MerchantId,
        state: WaitingAttempt,
        after: Option<AttemptId>,
        limit: usize,
    ) -> Result<Vec<Attempt>> {
        payments::waiting_attempts(self.readers(), merchant_id, state, after, limit).await
    }

    /// The attempts and payments of an order, all of one instant.
    pub async fn order_money(
        &self,
        merchant_id: &MerchantId,
        order_id: OrderId,
    ) -> Result<OrderMoney> {
        let input = (merchant_id.clone(), order_id);
        let read = self
            .readers()
            .snapshot(input, |connection, (merchant_id, id)| {
                Box::pin(async move {
                    orders::find(&mut *connection, merchant_id, *id).await?;
                    let attempts =
                        payments::attempts_of_order(&mut *connection, merchant_id, *id).await?;
                    let payments =
                        payments::payments_of_order(connection, merchant_id, *id).await?;
                    Ok(OrderMoney { attempts, payments })
                })
            });
        read.await
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
