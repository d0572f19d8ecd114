//! Reads coupons, and gives them to other buyers.

use crate::coupon::{
    Change, Coupon, CouponState, coupon_columns, find, from_row, not_free_reason, tell,
};
use crate::error::{Error, Result, check_text};
use crate::ids::{CouponId, MerchantId};
use crate::limits::{PAGE_ROWS_MAX, REFERENCE_CHARS_MAX};
use crate::platform::Platform;
use crate::store::Tx;
use crate::store::audit::Actor;

impl Platform {
    /// The coupon.
    pub async fn coupon(&self, merchant_id: &MerchantId, id: CouponId) -> Result<Coupon> {
        find(self.readers(), merchant_id, id).await
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
        let rows = sqlx::query(concat!(
            "select ",
            coupon_columns!(),
            " from coupon where merchant_id = ? and buyer_id = ? and id > ? order by id limit ?"
        ))
        .bind(merchant_id.as_str())
        .bind(buyer_id)
        .bind(after.map_or_else(uuid::Uuid::nil, CouponId::uuid))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(from_row).collect()
    }

    /// Gives a free coupon to another buyer.
    pub async fn give_coupon(
        &self,
        merchant_id: &MerchantId,
        id: CouponId,
        buyer_id: &str,
    ) -> Result<Coupon> {
        check_text("/buyer_id", buyer_id, REFERENCE_CHARS_MAX)?;
        let input = (merchant_id.clone(), id, buyer_id.to_owned());
        self.writer()
            .run(input, |tx, (merchant_id, id, buyer_id)| {
                Box::pin(give(tx, merchant_id, *id, buyer_id))
            })
            .await
    }
}

async fn give(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    id: CouponId,
    buyer_id: &str,
) -> Result<Coupon> {
    let now_ms = tx.now_ms();
    let row = sqlx::query(concat!(
        "update coupon set buyer_id = ?, version = version + 1
         where id = ? and merchant_id = ? and state = ? and expires_ms > ? returning ",
        coupon_columns!()
    ))
    .bind(buyer_id)
    .bind(id)
    .bind(merchant_id.as_str())
    .bind(CouponState::Free.stored())
    .bind(now_ms)
    .fetch_optional(tx.conn())
    .await?;
    let Some(row) = row else {
        let coupon = find(tx.conn(), merchant_id, id).await?;
        let reason = not_free_reason(&coupon);
        return Err(Error::CouponUnusable { id, reason });
    };
    let coupon = from_row(&row)?;
    tell(
        tx,
        &coupon,
        &Change {
            action: "give",
            event: "coupon.given",
            from: Some(CouponState::Free),
            actor: Actor::Merchant,
        },
    );
    Ok(coupon)
}
