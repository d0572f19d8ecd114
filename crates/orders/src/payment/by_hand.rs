//! Records money and settles payment attempts as a person says, where the gateway's word cannot be had or understood.

use crate::error::{Error, Result, check_text};
use crate::ids::{AttemptId, MerchantId, UnmatchedPaymentId};
use crate::limits::{AMOUNT_MINOR_MAX, REFERENCE_CHARS_MAX};
use crate::model::audit::{Actor, NewAudit};
use crate::model::payment::{Attempt, AttemptState, Payment};
use crate::model::timer::{NewTimer, TimerKind};
use crate::model::unmatched::{UnmatchedKind, UnmatchedPayment, UnmatchedState};
use crate::money::Currency;
use crate::payment::attempt::{self, End};
use crate::payment::{record, unmatched};
use crate::platform::Platform;
use crate::store::{self, Tx, payments};
use crate::timer;
use gateway::{Money, Paid};

/// What a person says about unmatched money; what is left out is taken from its report.
#[derive(Clone, Debug, Default)]
pub struct MoneyRecord {
    /// The attempt that it came for.
    pub attempt_id: Option<AttemptId>,
    /// The gateway's number of the transaction; needed where the report has no usable one.
    pub transaction_id: Option<String>,
    /// The amount, in minor units.
    pub amount_minor: Option<i64>,
    /// The amount's currency.
    pub currency: Option<Currency>,
}

/// What became of a payment attempt, as a person says.
#[derive(Clone, Copy, Debug)]
pub enum AttemptSettlement {
    /// Money came for it: this much, or what was to be paid.
    Paid {
        /// The amount, in minor units.
        amount_minor: Option<i64>,
        /// The amount's currency.
        currency: Option<Currency>,
    },
    /// No money came for it, and none will.
    Failed,
}

struct Settling {
    merchant_id: MerchantId,
    id: AttemptId,
    reference: String,
    settlement: AttemptSettlement,
}

impl Platform {
    /// Records unmatched money as a payment of an attempt, like a report that could be understood. Repeated, it changes
    /// nothing.
    ///
    /// It pays the order if that is open, and is refunded otherwise.
    pub async fn record_unmatched_payment(
        &self,
        id: UnmatchedPaymentId,
        money: MoneyRecord,
    ) -> Result<UnmatchedPayment> {
        if let Some(transaction_id) = &money.transaction_id {
            check_transaction("/transaction_id", transaction_id)?;
        }
        self.writer()
            .run((id, money), |tx, (id, money)| {
                Box::pin(record_unmatched(tx, *id, money))
            })
            .await
    }

    /// Settles an attempt by hand. `reference` is the gateway's number of the transaction, or names why the attempt failed.
    ///
    /// Money pays the order if that is open, and is refunded otherwise.
    pub async fn settle_attempt(
        &self,
        merchant_id: &MerchantId,
        id: AttemptId,
        reference: &str,
        settlement: AttemptSettlement,
    ) -> Result<Attempt> {
        check_text("/reference", reference, REFERENCE_CHARS_MAX)?;
        let input = Settling {
            merchant_id: merchant_id.clone(),
            id,
            reference: reference.to_owned(),
            settlement,
        };
        self.writer()
            .run(input, |tx, input| Box::pin(settle(tx, input)))
            .await
    }

    /// Asks the gateway about an attempt without a final answer now, also about one that needed an operator.
    pub async fn retry_attempt(&self, merchant_id: &MerchantId, id: AttemptId) -> Result<Attempt> {
        let input = (merchant_id.clone(), id);
        self.writer()
            .run(input, |tx, (merchant_id, id)| {
                Box::pin(retry(tx, merchant_id, *id))
            })
            .await
    }
}

async fn record_unmatched(
    tx: &mut Tx,
    id: UnmatchedPaymentId,
    money: &MoneyRecord,
) -> Result<UnmatchedPayment> {
    let noted = store::unmatched::get(tx, id).await?;
    let same_attempt = money.attempt_id.is_none() || money.attempt_id == noted.attempt_id;
    match noted.state {
        UnmatchedState::Open => {}
        UnmatchedState::Superseded if same_attempt => return Ok(noted),
        UnmatchedState::Superseded | UnmatchedState::Settled => {
            let (what, id) = ("unmatched payment", id.to_string());
            return Err(Error::Settled { what, id });
        }
    }
    if noted.kind == UnmatchedKind::UnknownRefund {
        let detail = "it went back by a refund and can only be settled";
        return Err(Error::invalid("", detail));
    }
    let attempt_id = money.attempt_id.or(noted.attempt_id);
    let attempt_id = attempt_id
        .ok_or_else(|| Error::invalid("/attempt_id", "name the attempt that the money came for"))?;
    let attempt = payments::find_attempt(tx.conn(), attempt_id).await?;
    let attempt = attempt.filter(|attempt| attempt.account_id == noted.account_id);
    let attempt = attempt.ok_or_else(|| {
        let detail = "the gateway account of the money has no such attempt";
        Error::invalid("/attempt_id", detail)
    })?;
    let transaction_id = transaction_of(&noted, money)?;
    if store::unmatched::is_dealt_with(tx, noted.account_id, &transaction_id).await? {
        let (what, id) = ("transaction", transaction_id);
        return Err(Error::Settled { what, id });
    }
    let reported = noted.amount.as_deref().and_then(|text| text.parse().ok());
    let currency = noted.currency.as_deref().and_then(|text| text.parse().ok());
    let paid = Paid {
        transaction_id,
        money: money_of(money.amount_minor.or(reported), money.currency.or(currency))?,
        paid_at_ms: instant(noted.paid_at_ms.unwrap_or_else(|| tx.wall_now_ms())),
    };
    let payment = by_hand(tx, &attempt, &paid)?;
    if record::take(tx, &attempt, payment.clone(), Actor::Operator)
        .await?
        .is_none()
    {
        let detail = "its transaction is recorded already; settle it";
        return Err(Error::invalid("", detail));
    }
    store::unmatched::set_payment(tx, id, &payment).await?;
    tx.audit(NewAudit {
        subject: id.to_string(),
        merchant_id: noted.merchant_id,
        entity: id.to_string(),
        actor: Actor::Operator,
        action: "record",
        from: Some(noted.state.as_str()),
        to: Some(UnmatchedState::Superseded.as_str()),
        detail: Some(payment.id.to_string()),
    });
    store::unmatched::get(tx, id).await
}

/// The number of the transaction under which the gateway reports the money, or will.
///
/// Under any other number the money would be a second payment once the gateway reports it, and be refunded.
fn transaction_of(noted: &UnmatchedPayment, money: &MoneyRecord) -> Result<String> {
    let said = money.transaction_id.as_ref();
    if unmatched::is_digest(&noted.key) {
        let missing = || {
            let detail = "the report has no usable number of the transaction: name the gateway's";
            Error::invalid("/transaction_id", detail)
        };
        return said.cloned().ok_or_else(missing);
    }
    if said.is_some_and(|said| *said != noted.key) {
        let detail = "the gateway reported the money under another number";
        return Err(Error::invalid("/transaction_id", detail));
    }
    Ok(noted.key.clone())
}

async fn settle(tx: &mut Tx, input: &Settling) -> Result<Attempt> {
    let attempt = find(tx, &input.merchant_id, input.id).await?;
    match input.settlement {
        AttemptSettlement::Paid {
            amount_minor,
            currency,
        } => {
            let amount_minor = amount_minor.unwrap_or(attempt.amount_minor);
            let currency = currency.unwrap_or(attempt.currency);
            let money = money_of(Some(amount_minor), Some(currency))?;
            settle_paid(tx, &attempt, &input.reference, money).await?;
        }
        AttemptSettlement::Failed => settle_failed(tx, &attempt, &input.reference).await?,
    }
    find(tx, &input.merchant_id, input.id).await
}

async fn settle_paid(tx: &mut Tx, attempt: &Attempt, reference: &str, money: Money) -> Result<()> {
    check_transaction("/reference", reference)?;
    let recorded = payments::attempt_of_transaction(tx, attempt.account_id, reference).await?;
    if recorded == Some(attempt.id) {
        return Ok(());
    }
    if attempt.state == AttemptState::Succeeded {
        return Err(refusal(attempt, "paid again by hand"));
    }
    let dealt_with = store::unmatched::is_dealt_with(tx, attempt.account_id, reference).await?;
    if recorded.is_some() || dealt_with {
        let (what, id) = ("transaction", reference.to_owned());
        return Err(Error::Settled { what, id });
    }
    let paid = Paid {
        transaction_id: reference.to_owned(),
        money,
        paid_at_ms: instant(tx.wall_now_ms()),
    };
    let payment = by_hand(tx, attempt, &paid)?;
    record::take(tx, attempt, payment, Actor::Operator).await?;
    Ok(())
}

async fn settle_failed(tx: &mut Tx, attempt: &Attempt, reference: &str) -> Result<()> {
    let detail = format!("settled by hand: {reference}");
    if attempt.state == AttemptState::Failed && attempt.detail.as_ref() == Some(&detail) {
        return Ok(());
    }
    if !attempt.state.is_open() && attempt.state != AttemptState::NeedsOperator {
        return Err(refusal(attempt, "settled as failed"));
    }
    let end = End {
        to: AttemptState::Failed,
        actor: Actor::Operator,
        detail: Some(detail),
    };
    attempt::change(tx, attempt, &end).await?;
    Ok(())
}

async fn retry(tx: &mut Tx, merchant_id: &MerchantId, id: AttemptId) -> Result<Attempt> {
    let attempt = find(tx, merchant_id, id).await?;
    match attempt.state {
        AttemptState::Submitted | AttemptState::Unknown => {}
        AttemptState::NeedsOperator => {
            let end = End {
                to: AttemptState::Unknown,
                actor: Actor::Operator,
                detail: None,
            };
            attempt::change(tx, &attempt, &end).await?;
        }
        AttemptState::Succeeded | AttemptState::Closed | AttemptState::Failed => {
            return Err(refusal(&attempt, "asked about again"));
        }
    }
    let attempt = find(tx, merchant_id, id).await?;
    let now_ms = tx.now_ms();
    let ask = NewTimer {
        kind: TimerKind::Attempt,
        id: attempt.id.uuid(),
        merchant_id: attempt.merchant_id.clone(),
        due_ms: attempt.expires_ms,
        fire_ms: now_ms,
        version: attempt.version,
    };
    timer::set(tx, ask).await?;
    Ok(attempt)
}

async fn find(tx: &mut Tx, merchant_id: &MerchantId, id: AttemptId) -> Result<Attempt> {
    let attempt = payments::find_attempt(tx.conn(), id).await?;
    let attempt = attempt.filter(|attempt| attempt.merchant_id == *merchant_id);
    attempt.ok_or_else(|| Error::not_found("payment attempt", &id))
}

fn check_transaction(field: &'static str, transaction_id: &str) -> Result<()> {
    if unmatched::is_usable(transaction_id) {
        return Ok(());
    }
    let detail = format!(
        "the number of a transaction has 1 to {REFERENCE_CHARS_MAX} characters and no control characters"
    );
    Err(Error::invalid(field, detail))
}

/// The money, if it is known and can be.
fn money_of(amount_minor: Option<i64>, currency: Option<Currency>) -> Result<Money> {
    let amount = amount_minor.filter(|amount| (1..=AMOUNT_MINOR_MAX).contains(amount));
    let amount = amount.ok_or_else(|| {
        let detail = format!("name the amount, 1 to {AMOUNT_MINOR_MAX} minor units");
        Error::invalid("/amount_minor", detail)
    })?;
    let currency = currency.ok_or_else(|| Error::invalid("/currency", "name the currency"))?;
    Ok(Money {
        amount,
        currency: currency.to_string(),
    })
}

fn by_hand(tx: &Tx, attempt: &Attempt, paid: &Paid) -> Result<Payment> {
    let payment = record::payment(tx.now_ms(), attempt, paid);
    payment.ok_or_else(|| Error::invalid("", "the money cannot be understood"))
}

fn instant(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0)
}

fn refusal(attempt: &Attempt, wanted: &'static str) -> Error {
    Error::AttemptState {
        id: attempt.id,
        state: attempt.state,
        wanted,
    }
}
