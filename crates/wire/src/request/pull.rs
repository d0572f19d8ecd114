//! Defines the parameters of a pull.

use crate::fields::{FieldError, Fields};

/// Bits of [`Pull::sys_flag`].
pub mod pull_flag {
    /// The request commits an offset.
    pub const COMMIT_OFFSET: i32 = 1;
    /// The broker may hold the request until there is something.
    pub const SUSPEND: i32 = 2;
    /// The request has its filter with it.
    pub const SUBSCRIPTION: i32 = 4;
    /// The filter is a Java class; long gone.
    pub const CLASS_FILTER: i32 = 8;
    /// The consumer is a lite pull one.
    pub const LITE_PULL: i32 = 16;
}

/// A request for messages of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// Consumer group.
    pub group: String,
    /// Topic.
    pub topic: String,
    /// Queue.
    pub queue_id: i32,
    /// First offset that is wanted.
    pub queue_offset: i64,
    /// At most so many messages.
    pub messages_max: i32,
    /// Bits of [`pull_flag`].
    pub sys_flag: i32,
    /// The offset to commit, if the flags say so.
    pub commit_offset: i64,
    /// How long the request may be held, in ms, if the flags say so.
    pub suspend_ms: i64,
    /// The filter, if the flags say so.
    pub subscription: Option<String>,
    /// Version of the client's subscription; the broker has to know one as new.
    pub subscription_version: i64,
    /// `TAG` or `SQL92`; absent: `TAG`.
    pub expression_type: Option<String>,
    /// At most so many bytes of messages, if the client says so.
    pub bytes_max: Option<i32>,
}

impl Pull {
    /// Reads the parameters.
    ///
    /// # Errors
    ///
    /// [`FieldError`] for the first that is missing or wrong.
    pub fn read(fields: &Fields) -> Result<Self, FieldError> {
        Ok(Self {
            group: fields.text("consumerGroup")?.to_owned(),
            topic: fields.text("topic")?.to_owned(),
            queue_id: fields.number("queueId")?,
            queue_offset: fields.number("queueOffset")?,
            messages_max: fields.number("maxMsgNums")?,
            sys_flag: fields.number("sysFlag")?,
            commit_offset: fields.number("commitOffset")?,
            suspend_ms: fields.number("suspendTimeoutMillis")?,
            subscription: fields.get("subscription").map(str::to_owned),
            subscription_version: fields.number("subVersion")?,
            expression_type: fields.get("expressionType").map(str::to_owned),
            bytes_max: fields.number_if_any("maxMsgBytes")?,
        })
    }

    /// Whether a bit of [`pull_flag`] is set.
    pub fn has(&self, flag: i32) -> bool {
        self.sys_flag & flag != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_is_read_with_its_flags() {
        let pairs = [
            ("consumerGroup", "g"),
            ("topic", "orders"),
            ("queueId", "2"),
            ("queueOffset", "40"),
            ("maxMsgNums", "32"),
            ("sysFlag", "6"),
            ("commitOffset", "0"),
            ("suspendTimeoutMillis", "15000"),
            ("subscription", "a || b"),
            ("subVersion", "1700000000000"),
        ];
        let mut fields: Fields = pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect();
        let pull = Pull::read(&fields).expect("it is whole");
        assert!(pull.has(pull_flag::SUSPEND) && pull.has(pull_flag::SUBSCRIPTION));
        assert!(!pull.has(pull_flag::COMMIT_OFFSET));
        assert_eq!((pull.suspend_ms, pull.bytes_max), (15_000, None));
        fields.set("queueOffset", "-");
        assert!(Pull::read(&fields).is_err());
    }
}
