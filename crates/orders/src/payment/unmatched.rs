//! Keeps money that a gateway reports and that no payment can hold, until a person has settled it.
//!
//! An error would only make the gateway report it again, and in the end forget it. Such money is never refunded by
//! itself: what cannot be understood cannot be given back, and on a shared account it may be another system's.

use sha2::{Digest, Sha256};

use crate::error::{Error, Result, check_text};
use crate::hex::hex;
use crate::ids::UnmatchedPaymentId;
use crate::limits::{NAME_CHARS_MAX, REFERENCE_CHARS_MAX, REPORT_BYTES_MAX};
use crate::metrics::Metric;
use crate::model::audit::{Actor, NewAudit};
use crate::model::unmatched::{NewUnmatched, UnmatchedPayment, UnmatchedState};
use crate::payment::event::emit_unmatched;
use crate::platform::Platform;
use crate::store::Tx;
use crate::store::unmatched::{self, Settlement};

/// Begins a key that is a digest.
const DIGEST: &str = "sha256:";

impl Platform {
    /// Up to `limit` unmatched payments of all merchants, those after `after`, oldest first; only open ones if asked.
    pub async fn unmatched_payments(
        &self,
        open: bool,
        after: Option<UnmatchedPaymentId>,
        limit: usize,
    ) -> Result<Vec<UnmatchedPayment>> {
        unmatched::page(self.readers(), open, after, limit).await
    }

    /// The unmatched payment, of any merchant.
    pub async fn unmatched_payment(&self, id: UnmatchedPaymentId) -> Result<UnmatchedPayment> {
        unmatched::find(self.readers(), id).await
    }

    /// Records that a person has dealt with the money: gave it back, or keeps it; `reference` says by what.
    ///
    /// Later reports of it are counted and change nothing.
    pub async fn settle_unmatched_payment(
        &self,
        id: UnmatchedPaymentId,
        reference: &str,
        note: Option<&str>,
    ) -> Result<UnmatchedPayment> {
        check_text("/reference", reference, REFERENCE_CHARS_MAX)?;
        if let Some(note) = note {
            check_text("/note", note, NAME_CHARS_MAX)?;
        }
        let settlement = Settlement {
            id,
            reference: reference.to_owned(),
            note: note.map(str::to_owned),
        };
        self.writer()
            .run(settlement, |tx, settlement| {
                Box::pin(settle(tx, settlement))
            })
            .await
    }
}

async fn settle(tx: &mut Tx, settlement: &Settlement) -> Result<UnmatchedPayment> {
    let Some(settled) = unmatched::settle(tx, settlement).await? else {
        let found = unmatched::get(tx, settlement.id).await?;
        if found.reference.as_ref() == Some(&settlement.reference) {
            return Ok(found);
        }
        return Err(Error::Settled {
            what: "unmatched payment",
            id: settlement.id.to_string(),
        });
    };
    tx.audit(NewAudit {
        subject: settled.id.to_string(),
        merchant_id: settled.merchant_id.clone(),
        entity: settled.id.to_string(),
        actor: Actor::Operator,
        action: "settle",
        from: Some(UnmatchedState::Open.as_str()),
        to: Some(settled.state.as_str()),
        detail: settled.reference.clone(),
    });
    Ok(settled)
}

/// Notes money that no payment can hold, or counts one more report of it. The first one raises the alarm.
pub(crate) async fn note(tx: &mut Tx, new: &NewUnmatched) -> Result<()> {
    let noted = unmatched::note(tx, new).await?;
    let (id, account_id, kind) = (noted.id, noted.account_id, noted.kind.as_str());
    if noted.reports > 1 {
        if noted.state == UnmatchedState::Settled {
            tracing::error!(%id, %account_id, kind, "money that a person has settled was reported again");
        }
        return Ok(());
    }
    tracing::error!(%id, %account_id, kind, "a gateway reported money that no payment can hold");
    tx.record(Metric::Unmatched(noted.kind));
    let subject = match new.attempt {
        Some((_, order_id)) => order_id.to_string(),
        None => id.to_string(),
    };
    tx.audit(NewAudit {
        subject: subject.clone(),
        merchant_id: noted.merchant_id.clone(),
        entity: id.to_string(),
        actor: Actor::Gateway,
        action: "unmatched",
        from: None,
        to: Some(noted.state.as_str()),
        detail: Some(kind.to_owned()),
    });
    emit_unmatched(tx, &noted, subject);
    Ok(())
}

/// Whether this number of a transaction can distinguish payments.
pub(crate) fn is_usable(transaction_id: &str) -> bool {
    let chars = transaction_id.chars().count();
    (1..=REFERENCE_CHARS_MAX).contains(&chars) && !transaction_id.chars().any(char::is_control)
}

/// What distinguishes this money from other money of the account: the number of its transaction, or a digest of that or
/// of the report.
pub(crate) fn key_of(transaction_id: &str, raw: &str) -> String {
    if is_usable(transaction_id) {
        return transaction_id.to_owned();
    }
    let text = if transaction_id.is_empty() {
        raw
    } else {
        transaction_id
    };
    format!("{DIGEST}{}", hex(&Sha256::digest(text.as_bytes())))
}

/// Whether the key of the money is a digest instead of the number of its transaction.
pub(crate) fn is_digest(key: &str) -> bool {
    key.starts_with(DIGEST)
}

/// As much of a text of the gateway as is kept.
pub(crate) fn cut(text: &str, bytes_max: usize) -> String {
    let mut end = std::cmp::min(text.len(), bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// As much of a report as is kept.
pub(crate) fn cut_report(raw_body: &[u8]) -> String {
    cut(&String::from_utf8_lossy(raw_body), REPORT_BYTES_MAX)
}
