//! Provides the rules that issue coupons.

use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;

use crate::error::{Error, Result, check_range, check_text};
use crate::ids::{CouponRuleId, MerchantId};
use crate::limits::{AMOUNT_MINOR_MAX, COUPON_DAYS_MAX, NAME_CHARS_MAX};
use crate::merchant::duplicate;
use crate::money::Currency;
use crate::platform::Platform;
use crate::product::currency;
use crate::store::idempotency::{Answered, Idempotency, Keyed};
use crate::store::{Tx, column};

/// Gives a coupon to the buyer of every paid order that is large enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CouponRule {
    /// Its id.
    pub id: CouponRuleId,
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// What people call it; unique for the merchant.
    pub name: String,
    /// What its coupons take off, in minor units.
    pub amount_off_minor: i64,
    /// Currency of the orders that it is for.
    pub currency: Currency,
    /// The least that must have been paid, in minor units.
    pub min_total_minor: i64,
    /// How long its coupons are valid, in days.
    pub valid_days: i64,
    /// Whether it issues coupons.
    pub active: bool,
    /// When it was made, in ms since the Unix epoch.
    pub created_ms: i64,
}

/// A rule to make.
#[derive(Clone, Debug)]
pub struct NewCouponRule {
    /// What people call it; unique for the merchant.
    pub name: String,
    /// What its coupons take off, in minor units.
    pub amount_off_minor: i64,
    /// Currency of the orders that it is for.
    pub currency: Currency,
    /// The least that must have been paid, in minor units.
    pub min_total_minor: i64,
    /// How long its coupons are valid, in days.
    pub valid_days: i64,
}

impl Platform {
    /// Makes a rule, which issues coupons from now on.
    pub async fn create_coupon_rule(
        &self,
        merchant_id: &MerchantId,
        new: NewCouponRule,
        idempotency: Option<Idempotency>,
    ) -> Result<Answered<CouponRule>> {
        check_text("/name", &new.name, NAME_CHARS_MAX)?;
        check_range(
            "/amount_off_minor",
            new.amount_off_minor,
            1..=AMOUNT_MINOR_MAX,
        )?;
        check_range(
            "/min_total_minor",
            new.min_total_minor,
            0..=AMOUNT_MINOR_MAX,
        )?;
        check_range("/valid_days", new.valid_days, 1..=COUPON_DAYS_MAX)?;
        self.run_keyed(Keyed {
            merchant_id: merchant_id.clone(),
            idempotency,
            input: new,
            operation: |tx, merchant_id, new| Box::pin(create(tx, merchant_id, new)),
        })
        .await
    }

    /// The merchant's rules.
    pub async fn coupon_rules(&self, merchant_id: &MerchantId) -> Result<Vec<CouponRule>> {
        let rows = sqlx::query(
            "select id, merchant_id, name, amount_off_minor, currency, min_total_minor, valid_days,
                    active, created_ms
             from coupon_rule where merchant_id = ? order by id",
        )
        .bind(merchant_id.as_str())
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(from_row).collect()
    }

    /// Switches a rule on or off; coupons it has issued stay.
    pub async fn set_coupon_rule_active(
        &self,
        merchant_id: &MerchantId,
        id: CouponRuleId,
        active: bool,
    ) -> Result<CouponRule> {
        let input = (merchant_id.clone(), id, active);
        self.writer()
            .run(input, |tx, (merchant_id, id, active)| {
                Box::pin(set_active(tx, merchant_id, *id, *active))
            })
            .await
    }
}

async fn create(tx: &mut Tx, merchant_id: &MerchantId, new: &NewCouponRule) -> Result<CouponRule> {
    let now_ms = tx.now_ms();
    let id = CouponRuleId::new(now_ms);
    let inserted = sqlx::query(
        "insert into coupon_rule (id, merchant_id, name, amount_off_minor, currency, min_total_minor,
             valid_days, active, created_ms)
         values (?, ?, ?, ?, ?, ?, ?, 1, ?)
         returning id, merchant_id, name, amount_off_minor, currency, min_total_minor, valid_days,
                   active, created_ms",
    )
    .bind(id)
    .bind(merchant_id.as_str())
    .bind(&new.name)
    .bind(new.amount_off_minor)
    .bind(new.currency.as_str())
    .bind(new.min_total_minor)
    .bind(new.valid_days)
    .bind(now_ms)
    .fetch_one(tx.conn())
    .await;
    from_row(&inserted.map_err(|error| duplicate(error, "coupon rule", &new.name))?)
}

async fn set_active(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    id: CouponRuleId,
    active: bool,
) -> Result<CouponRule> {
    let row = sqlx::query(
        "update coupon_rule set active = ? where id = ? and merchant_id = ?
         returning id, merchant_id, name, amount_off_minor, currency, min_total_minor, valid_days,
                   active, created_ms",
    )
    .bind(active)
    .bind(id)
    .bind(merchant_id.as_str())
    .fetch_optional(tx.conn())
    .await?;
    from_row(&row.ok_or_else(|| Error::not_found("coupon rule", &id))?)
}

fn from_row(row: &SqliteRow) -> Result<CouponRule> {
    Ok(CouponRule {
        id: column(row, "id")?,
        merchant_id: MerchantId::from_stored(column(row, "merchant_id")?),
        name: column(row, "name")?,
        amount_off_minor: column(row, "amount_off_minor")?,
        currency: currency(row)?,
        min_total_minor: column(row, "min_total_minor")?,
        valid_days: column(row, "valid_days")?,
        active: column(row, "active")?,
        created_ms: column(row, "created_ms")?,
    })
}
