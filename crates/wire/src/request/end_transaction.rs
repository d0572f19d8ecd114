//! Defines the parameters of the end of a transaction.

use crate::fields::{FieldError, Fields};

/// What a producer makes of a half message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is delivered.
    Commit,
    /// It is dropped.
    Rollback,
    /// Not known yet; the broker asks again.
    Unknown,
}

/// The end of a transaction, or the answer to a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndTransaction {
    /// Group of the producer.
    pub producer_group: String,
    /// Topic of the message; clients before 5.0 leave it out.
    pub topic: Option<String>,
    /// Offset in the queue of half messages, as the response to the send had it.
    pub table_offset: i64,
    /// Physical offset of the half message, from its offset id.
    pub physical_offset: i64,
    /// What becomes of the message.
    pub outcome: Outcome,
    /// Id that the producer gave the message.
    pub message_id: String,
    /// Id of the transaction, as the response to the send had it.
    pub transaction_id: Option<String>,
    /// Whether the broker asked for it.
    pub is_answer: bool,
}

impl EndTransaction {
    /// Reads the parameters.
    ///
    /// # Errors
    ///
    /// [`FieldError`] for the first that is missing or wrong.
    pub fn read(fields: &Fields) -> Result<Self, FieldError> {
        let name = "commitOrRollback";
        let outcome = match fields.number::<i32>(name)? {
            8 => Outcome::Commit,
            12 => Outcome::Rollback,
            0 => Outcome::Unknown,
            other => {
                return Err(FieldError::Invalid {
                    name,
                    expected: "outcome",
                    value: other.to_string(),
                });
            }
        };
        Ok(Self {
            producer_group: fields.text("producerGroup")?.to_owned(),
            topic: fields.get("topic").map(str::to_owned),
            table_offset: fields.number("tranStateTableOffset")?,
            physical_offset: fields.number("commitLogOffset")?,
            outcome,
            message_id: fields.text("msgId")?.to_owned(),
            transaction_id: fields.get("transactionId").map(str::to_owned),
            is_answer: fields.flag("fromTransactionCheck")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_is_one_of_three_numbers() {
        let mut fields = Fields::default();
        for (name, value) in [
            ("producerGroup", "g"),
            ("tranStateTableOffset", "4"),
            ("commitLogOffset", "77"),
            ("commitOrRollback", "8"),
            ("msgId", "AC11000100002A9F0000000000000001"),
            ("fromTransactionCheck", "true"),
        ] {
            fields.set(name, value);
        }
        let end = EndTransaction::read(&fields).expect("it is whole");
        assert_eq!(
            (end.outcome, end.is_answer, end.topic),
            (Outcome::Commit, true, None)
        );
        fields.set("commitOrRollback", 4);
        let refused = EndTransaction::read(&fields).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the parameter commitOrRollback is no outcome: 4"
        );
    }
}
