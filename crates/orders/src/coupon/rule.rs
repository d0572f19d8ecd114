//! Creates, lists and switches the rules that issue coupons.

use crate::error::{Result, check_range, check_text};
use crate::ids::{CouponRuleId, MerchantId};
use crate::limits::{AMOUNT_MINOR_MAX, COUPON_DAYS_MAX, NAME_CHARS_MAX};
use crate::model::audit::{Actor, NewAudit};
use crate::model::coupon::{CouponRule, NewCouponRule};
use crate::platform::Platform;
use crate::store::idempotency::{Answered, Idempotency, Keyed};
use crate::store::{Tx, coupons};

impl Platform {
    /// Creates a rule, which issues coupons from now on.
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
        coupons::rules(self.readers(), merchant_id).await
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
                Box::pin(switch(tx, merchant_id, *id, *active))
            })
            .await
    }
}

async fn create(tx: &mut Tx, merchant_id: &MerchantId, new: &NewCouponRule) -> Result<CouponRule> {
    let rule = coupons::insert_rule(tx, merchant_id, new).await?;
    audit(tx, &rule, "create");
    Ok(rule)
}

async fn switch(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    id: CouponRuleId,
    active: bool,
) -> Result<CouponRule> {
    let rule = coupons::set_rule_active(tx, merchant_id, id, active).await?;
    audit(tx, &rule, if active { "switch_on" } else { "switch_off" });
    Ok(rule)
}

/// Records what was done to a rule.
fn audit(tx: &mut Tx, rule: &CouponRule, action: &'static str) {
    tx.audit(NewAudit {
        subject: rule.id.to_string(),
        merchant_id: rule.merchant_id.clone(),
        entity: rule.id.to_string(),
        actor: Actor::Merchant,
        action,
        from: None,
        to: None,
        detail: Some(rule.name.clone()),
    });
}
