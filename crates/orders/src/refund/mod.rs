//! Requests refunds, drives them at the gateways, and reads them.

pub(crate) mod drive;
mod effects;
pub(crate) mod event;
mod operator;
pub(crate) mod request;
mod reserve;
mod schedule;
pub(crate) mod transition;

use crate::error::Result;
use crate::ids::{MerchantId, OrderId, RefundId};
use crate::limits::PAGE_ROWS_MAX;
use crate::model::refund::{Refund, RefundState};
use crate::platform::Platform;
use crate::store::refunds;

/// A page of refunds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundPage {
    /// The refunds, oldest first.
    pub refunds: Vec<Refund>,
    /// What to pass as `after` for the next page; `None` at the end.
    pub next: Option<RefundId>,
}

impl Platform {
    /// Up to `limit` refunds of the merchant in the order of their age, those after `after`; of one state if it is given.
    pub async fn refund_page(
        &self,
        merchant_id: &MerchantId,
        state: Option<RefundState>,
        after: Option<RefundId>,
        limit: usize,
    ) -> Result<RefundPage> {
        let limit = limit.clamp(1, PAGE_ROWS_MAX);
        let wanted = RefundState::ALL.into_iter();
        let mut found = Vec::new();
        // The index leads with the state, so all states are so many short scans of it.
        for state in wanted.filter(|each| state.is_none_or(|state| state == *each)) {
            let page = refunds::page(self.readers(), merchant_id, state, after, limit + 1);
            found.extend(page.await?);
        }
        found.sort_by_key(|refund| refund.id);
        // One that changes its state between two of the scans may be found in both.
        found.dedup_by_key(|refund| refund.id);
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|refund| refund.id);
        Ok(RefundPage {
            refunds: found,
            next,
        })
    }

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
