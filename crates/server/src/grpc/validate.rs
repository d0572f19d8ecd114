//! Validates messages of producers by the rules of Apache RocketMQ.

use std::collections::HashMap;

use grpc_api::v2::{Code, SystemProperties};

use super::limits::{MESSAGE_GROUP_BYTES_MAX, USER_PROPERTIES_BYTES_MAX, USER_PROPERTIES_MAX};
use super::status::Problem;
use crate::carried::CARRIED_PREFIX;

/// Names of properties that RocketMQ uses itself.
const RESERVED: &[&str] = &[
    "1ST_POP_TIME",
    "ARRIVE_TIME",
    "BORN_HOST",
    "BORN_TIMESTAMP",
    "BUYER_ID",
    "CHECK_IMMUNITY_TIME_IN_SECONDS",
    "CLUSTER",
    "CONSUME_START_TIME",
    "CORRECTION_FLAG",
    "CORRELATION_ID",
    "DELAY",
    "DLQ_ORIGIN_MESSAGE_ID",
    "DLQ_ORIGIN_TOPIC",
    "DUP_INFO",
    "EXTEND_UNIQ_INFO",
    "INNER_BASE",
    "INNER_MULTI_DISPATCH",
    "INNER_MULTI_QUEUE_OFFSET",
    "INNER_NUM",
    "INSTANCE_ID",
    "KEYS",
    "MAX_OFFSET",
    "MAX_RECONSUME_TIMES",
    "MIN_OFFSET",
    "MQ2_FLAG",
    "MSG_REGION",
    "MSG_TYPE",
    "ORIGIN_MESSAGE_ID",
    "PGROUP",
    "POP_CK",
    "POP_CK_OFFSET",
    "PUSH_REPLY_TIME",
    "REAL_QID",
    "REAL_TOPIC",
    "RECONSUME_TIME",
    "REPLY_TO_CLIENT",
    "RETRY_TOPIC",
    "TAGS",
    "TIMER_DELAY_LEVEL",
    "TIMER_DELAY_MS",
    "TIMER_DELAY_SEC",
    "TIMER_DELIVER_MS",
    "TIMER_DEL_UNIQKEY",
    "TIMER_DEQUEUE_MS",
    "TIMER_ENQUEUE_MS",
    "TIMER_LOG_ROLL",
    "TIMER_OUT_MS",
    "TIMER_ROLL_TIMES",
    "TRACE_ON",
    "TRANSACTION_CHECK_TIMES",
    "TRANSACTION_PREPARED_QUEUE_OFFSET",
    "TRANSFER_FLAG",
    "TRAN_MSG",
    "TTL",
    "UNIQ_KEY",
    "WAIT",
    "__SHARDINGKEY",
    "__STARTDELIVERTIME",
    "__transactionId__",
];

/// Checks id, tag, keys and message group.
pub(crate) fn system_properties(system: &SystemProperties) -> Result<(), Problem> {
    if system.message_id.trim().is_empty() {
        return Err(Problem::new(
            Code::IllegalMessageId,
            "the message id is missing or blank",
        ));
    }
    if let Some(tag) = &system.tag {
        let fail = |message| Err(Problem::new(Code::IllegalMessageTag, message));
        if tag.trim().is_empty() {
            return fail("the tag is blank; omit it instead");
        }
        if tag.contains('|') || has_controls(tag) {
            return fail("the tag must not contain | or control characters");
        }
    }
    for key in &system.keys {
        if key.trim().is_empty() || has_controls(key) {
            return Err(Problem::new(
                Code::IllegalMessageKey,
                "a key is blank or contains control characters",
            ));
        }
    }
    if let Some(group) = &system.message_group {
        let fail = |message: String| Err(Problem::new(Code::IllegalMessageGroup, message));
        if group.trim().is_empty() || has_controls(group) {
            return fail("the message group is blank or contains control characters".to_owned());
        }
        if group.len() > MESSAGE_GROUP_BYTES_MAX {
            return fail(format!(
                "the message group has {} bytes; at most {MESSAGE_GROUP_BYTES_MAX} are allowed",
                group.len()
            ));
        }
    }
    Ok(())
}

/// Checks the user properties, alone and together with tag and keys.
pub(crate) fn user_properties(
    properties: &HashMap<String, String>,
    system: &SystemProperties,
) -> Result<(), Problem> {
    let too_large = |message: String| Err(Problem::new(Code::MessagePropertiesTooLarge, message));
    if properties.len() > USER_PROPERTIES_MAX {
        return too_large(format!(
            "the message has {} properties; at most {USER_PROPERTIES_MAX} are allowed",
            properties.len()
        ));
    }
    let mut bytes = system.tag.as_ref().map_or(0, String::len);
    bytes += system.keys.iter().map(String::len).sum::<usize>();
    for (name, value) in properties {
        bytes += name.len() + value.len();
        let fail = |message: String| Err(Problem::new(Code::IllegalMessagePropertyKey, message));
        if name.trim().is_empty() || has_controls(name) || has_controls(value) {
            return fail(format!(
                "the property {name:?} is blank or contains control characters"
            ));
        }
        if name.starts_with(CARRIED_PREFIX) || RESERVED.binary_search(&name.as_str()).is_ok() {
            return fail(format!(
                "the property {name:?} is used by the broker itself; choose another name"
            ));
        }
    }
    if bytes > USER_PROPERTIES_BYTES_MAX {
        return too_large(format!(
            "properties, tag and keys have {bytes} bytes; at most {USER_PROPERTIES_BYTES_MAX} are allowed"
        ));
    }
    Ok(())
}

/// Checks the size of an unpacked body.
pub(crate) fn body(body: &[u8], bytes_max: usize) -> Result<(), Problem> {
    if body.is_empty() {
        return Err(Problem::new(Code::MessageBodyEmpty, "the body is empty"));
    }
    if body.len() > bytes_max {
        return Err(Problem::new(
            Code::MessageBodyTooLarge,
            format!("the body has more than the allowed {bytes_max} bytes"),
        ));
    }
    Ok(())
}

fn has_controls(text: &str) -> bool {
    text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(
        change: impl FnOnce(&mut SystemProperties, &mut HashMap<String, String>),
    ) -> Option<i32> {
        let mut system = SystemProperties {
            message_id: "01".into(),
            ..SystemProperties::default()
        };
        let mut properties = HashMap::new();
        change(&mut system, &mut properties);
        let result =
            system_properties(&system).and_then(|()| user_properties(&properties, &system));
        result.err().map(|problem| problem.code as i32)
    }

    #[test]
    fn invalid_messages_are_refused_with_the_code_of_rocketmq() {
        assert!(RESERVED.is_sorted());
        assert_eq!(code(|_, _| ()), None);
        assert_eq!(
            code(|system, _| system.message_id = " ".into()),
            Some(40009)
        );
        assert_eq!(
            code(|system, _| system.tag = Some("a|b".into())),
            Some(40004)
        );
        assert_eq!(
            code(|system, _| system.keys = vec!["\n".into()]),
            Some(40005)
        );
        let group = |bytes| {
            move |system: &mut SystemProperties, _: &mut HashMap<_, _>| {
                system.message_group = Some("g".repeat(bytes));
            }
        };
        assert_eq!(code(group(63)), None);
        assert_eq!(code(group(64)), Some(40006));
        let property = |name: &'static str| {
            move |_: &mut SystemProperties, map: &mut HashMap<String, String>| {
                map.insert(name.into(), "v".into());
            }
        };
        assert_eq!(code(property("amount")), None);
        for name in ["UNIQ_KEY", "__dt_host", "", "a\tb"] {
            assert_eq!(code(property(name)), Some(40007), "{name}");
        }
        let many = |count: usize, value: &'static str| {
            move |_: &mut SystemProperties, map: &mut HashMap<String, String>| {
                map.extend((0..count).map(|index| (format!("p{index}"), value.repeat(100))));
            }
        };
        assert_eq!(code(many(128, "v")), None);
        assert_eq!(code(many(129, "v")), Some(43101));
        assert_eq!(code(many(120, "vv")), Some(43101));
    }

    #[test]
    fn bodies_are_neither_empty_nor_too_large() {
        let code = |bytes: usize| {
            let result = body(&vec![0; bytes], 10);
            result.err().map(|problem| problem.code as i32)
        };
        assert_eq!(
            (code(0), code(10), code(11)),
            (Some(41302), None, Some(41301))
        );
    }
}
