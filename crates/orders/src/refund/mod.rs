//! Requests refunds, drives them at the gateways, and reads them.

pub(crate) mod drive;
pub(crate) mod event;
pub(crate) mod request;
pub(crate) mod transition;

use crate::error::Result;
use crate::ids::{MerchantId, OrderId, RefundId};
use crate::model::refund::Refund;
use crate::platform::Platform;
use crate::store::refunds;

impl Platform {
    /// The refund.
    pub async fn refund(&self, merchant_id: &MerchantId, id: RefundId) -> Result<Refund> {
        refunds::get(self.readers(), merchant_id, id).await
    }

    /// The order's refunds, oldest first.
    pub async fn refunds(
        &self,
        merchant_id: &MerchantId,
        order_id: OrderId,
    ) -> Result<Vec<Refund>> {
        refunds::of_order(self.readers(), merchant_id, order_id).await
    }
}
