//! Changes stock and coupons when a refund has succeeded: once, whatever becomes of the refund later.

use std::collections::BTreeMap;

use crate::coupon;
use crate::error::Result;
use crate::ids::ProductId;
use crate::model::refund::{Refund, RefundCause};
use crate::store::{Tx, orders, products, refunds};

/// Puts the refund's units back into stock, and takes the order's coupons back where all its money went back.
pub(crate) async fn apply(tx: &mut Tx, refund: &mut Refund) -> Result<()> {
    // Money that was not accepted has bought nothing.
    if refund.cause != RefundCause::Merchant || !refunds::set_applied(tx, refund.id).await? {
        return Ok(());
    }
    refund.applied = true;
    put_back(tx, refund).await?;
    if refunds::is_all_given_back(tx, refund).await? {
        coupon::revoke(tx, refund.order_id).await?;
        coupon::return_used_by_rule(tx, refund.order_id).await?;
    }
    Ok(())
}

async fn put_back(tx: &mut Tx, refund: &Refund) -> Result<()> {
    if !refund.restock {
        return Ok(());
    }
    let mut units: BTreeMap<ProductId, i64> = BTreeMap::new();
    for line in refunds::lines(tx, refund.id).await? {
        match orders::return_line(tx, refund.order_id, line).await? {
            Some(product_id) => *units.entry(product_id).or_insert(0) += line.quantity,
            // The refund had been refused, another one returned the units, then this one was taken up again.
            None => {
                tracing::warn!(refund = %refund.id, line = line.line_no, "the units of the refund came back before");
            }
        }
    }
    let units: Vec<_> = units.into_iter().collect();
    products::put_back(tx, &units).await
}
