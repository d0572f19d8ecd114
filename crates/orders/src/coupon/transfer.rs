//! Reads coupons, and transfers them to other buyers.

use crate::coupon::event::{Change, record};
use crate::coupon::unavailable_reason;
use crate::error::{Error, Result, check_text};
use crate::ids::{CouponId, MerchantId};
use crate::limits::{PAGE_ROWS_MAX, REFERENCE_CHARS_MAX};
use crate::model::audit::Actor;
use crate::model::coupon::{Coupon, CouponState};
use crate::model::event::EventType;
use crate::platform::Platform;
use crate::store::{Tx, coupons};

impl Platform {
    /// The coupon.
    pub async fn coupon(&self, merchant_id: &MerchantId, id: CouponId) -> Result<Coupon> {
        coupons::find(self.readers(), merchant_id, id).await
    }

    /// Up to `limit` coupons of a buyer in the order of their age, those after `after`.
    pub async fn coupons_of_buyer(
        &self,
        merchant_id: &MerchantId,
        buyer_id: &str,
        after: Option<CouponId>,
        limit: usize,
    ) -> Result<Vec<Coupon>> {
        let limit = std::cmp::min(limit, PAGE_ROWS_MAX);
        coupons::of_buyer(self.readers(), merchant_id, buyer_id, after, limit).await
    }

    /// Transfers an available coupon to another buyer.
    pub async fn transfer_coupon(
        &self,
        merchant_id: &MerchantId,
        id: CouponId,
        buyer_id: &str,
    ) -> Result<Coupon> {
        check_text("/buyer_id", buyer_id, REFERENCE_CHARS_MAX)?;
        let input = (merchant_id.clone(), id, buyer_id.to_owned());
        self.writer()
            .run(input, |tx, (merchant_id, id, buyer_id)| {
                Box::pin(transfer(tx, merchant_id, *id, buyer_id))
            })
            .await
    }
}

async fn transfer(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    id: CouponId,
    buyer_id: &str,
) -> Result<Coupon> {
    let transferred = coupons::transfer(tx, merchant_id, id, buyer_id).await?;
    let Some(coupon) = transferred else {
        let coupon = coupons::find(tx.conn(), merchant_id, id).await?;
        let reason = unavailable_reason(&coupon);
        return Err(Error::CouponUnusable { id, reason });
    };
    record(
        tx,
        &coupon,
        &Change {
            action: "give",
            event: EventType::CouponGiven,
            from: Some(CouponState::Available),
            actor: Actor::Merchant,
        },
    );
    Ok(coupon)
}
