//! Provides the text form of a message's properties, and the names that have a meaning.

/// Between a name and its value.
const NAME_END: char = '\u{1}';
/// After a value; the last one may be left out.
const PAIR_END: char = '\u{2}';
/// The longest text that the length field of a stored message can say, in bytes.
pub const BYTES_MAX: usize = i16::MAX as usize;

/// Keys of the message, with a space between two.
pub const KEYS: &str = "KEYS";
/// Tag of the message.
pub const TAGS: &str = "TAGS";
/// Whether the producer waits until the message is stored.
pub const WAIT: &str = "WAIT";
/// Level of the delay, from 1; 0 and less: none.
pub const DELAY: &str = "DELAY";
/// Delay in seconds.
pub const TIMER_DELAY_SEC: &str = "TIMER_DELAY_SEC";
/// Delay in ms.
pub const TIMER_DELAY_MS: &str = "TIMER_DELAY_MS";
/// Instant of delivery, in ms since 1970.
pub const TIMER_DELIVER_MS: &str = "TIMER_DELIVER_MS";
/// Instant at which a delivered message was due, in ms since 1970.
pub const TIMER_OUT_MS: &str = "TIMER_OUT_MS";
/// Id that the producer gave the message.
pub const UNIQ_KEY: &str = "UNIQ_KEY";
/// Group of the producer.
pub const PGROUP: &str = "PGROUP";
/// `true`: a half message of a transaction.
pub const TRAN_MSG: &str = "TRAN_MSG";
/// Id of the transaction.
pub const TRANSACTION_ID: &str = "__transactionId__";
/// How often the transaction was checked.
pub const TRANSACTION_CHECK_TIMES: &str = "TRANSACTION_CHECK_TIMES";
/// Seconds before the first check of the transaction.
pub const CHECK_IMMUNITY_TIME_IN_SECONDS: &str = "CHECK_IMMUNITY_TIME_IN_SECONDS";
/// Topic the message had before it went to a system topic.
pub const REAL_TOPIC: &str = "REAL_TOPIC";
/// Queue the message had before it went to a system topic.
pub const REAL_QUEUE_ID: &str = "REAL_QID";
/// Topic of a message that is consumed again.
pub const RETRY_TOPIC: &str = "RETRY_TOPIC";
/// Offset id of the message that is consumed again.
pub const ORIGIN_MESSAGE_ID: &str = "ORIGIN_MESSAGE_ID";
/// How often the message was consumed again, in a message that a client sends to a retry topic.
pub const RECONSUME_TIME: &str = "RECONSUME_TIME";
/// How often the message may be consumed again.
pub const MAX_RECONSUME_TIMES: &str = "MAX_RECONSUME_TIMES";
/// First offset of the queue, put in when the message is pulled.
pub const MIN_OFFSET: &str = "MIN_OFFSET";
/// Offset after the last message of the queue, put in when the message is pulled.
pub const MAX_OFFSET: &str = "MAX_OFFSET";
/// Message group.
pub const SHARDING_KEY: &str = "__SHARDINGKEY";
/// Topic of a dead letter.
pub const DLQ_ORIGIN_TOPIC: &str = "DLQ_ORIGIN_TOPIC";
/// Id of a dead letter.
pub const DLQ_ORIGIN_MESSAGE_ID: &str = "DLQ_ORIGIN_MESSAGE_ID";
/// Region of the broker.
pub const MSG_REGION: &str = "MSG_REGION";
/// Whether the client traces the message.
pub const TRACE_ON: &str = "TRACE_ON";
/// Number that joins a request message and its reply.
pub const CORRELATION_ID: &str = "CORRELATION_ID";
/// Client that waits for the reply.
pub const REPLY_TO_CLIENT: &str = "REPLY_TO_CLIENT";
/// How long the requester waits, in ms.
pub const TTL: &str = "TTL";

/// A property that the text form has no room for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PropertyError {
    /// A name is empty, or a name or a value has one of the two control characters that separate them.
    #[error("the property {0:?} is empty or has a control character that separates properties")]
    Separator(String),
    /// All together are too long.
    #[error("the properties take {0} bytes; at most {BYTES_MAX} are taken")]
    TooLong(usize),
}

/// The names and values in a text, in its order. What has no name or no value is passed by, as clients do.
pub fn parse(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = text.split(PAIR_END);
    pairs.filter_map(|pair| {
        pair.split_once(NAME_END)
            .filter(|(name, _)| !name.is_empty())
    })
}

/// The text of properties.
///
/// # Errors
///
/// [`PropertyError`] if one cannot be written so that it is read again, or all are longer than [`BYTES_MAX`].
pub fn format<'a>(
    properties: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<String, PropertyError> {
    let mut text = String::new();
    for (name, value) in properties {
        if name.is_empty()
            || name.contains([NAME_END, PAIR_END])
            || value.contains([NAME_END, PAIR_END])
        {
            return Err(PropertyError::Separator(name.chars().take(64).collect()));
        }
        text.push_str(name);
        text.push(NAME_END);
        text.push_str(value);
        text.push(PAIR_END);
    }
    if text.len() > BYTES_MAX {
        return Err(PropertyError::TooLong(text.len()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn properties_are_read_as_they_were_written(
            pairs in prop::collection::vec(("[^\u{1}\u{2}]{1,8}", "[^\u{1}\u{2}]{0,20}"), 0..8),
        ) {
            let borrowed: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let text = format(borrowed.clone()).expect("they can be written");
            prop_assert_eq!(parse(&text).collect::<Vec<_>>(), borrowed);
        }
    }

    #[test]
    fn what_a_client_leaves_out_is_passed_by() {
        let pairs: Vec<_> =
            parse("TAGS\u{1}a\u{2}\u{2}lonely\u{2}\u{1}nameless\u{2}KEYS\u{1}k l").collect();
        assert_eq!(pairs, [("TAGS", "a"), ("KEYS", "k l")]);
        assert_eq!(parse("").count(), 0);
    }

    #[test]
    fn what_would_be_read_as_something_else_is_refused() {
        let refused = format([("a", "1\u{2}DELAY\u{1}3")]);
        assert_eq!(refused, Err(PropertyError::Separator("a".to_owned())));
        let long = "v".repeat(BYTES_MAX);
        assert_eq!(
            format([("a", long.as_str())]),
            Err(PropertyError::TooLong(BYTES_MAX + 3))
        );
    }
}
