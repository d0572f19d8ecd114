//! Defines the document by which a client says what it is and subscribes to.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

/// What a client is: sent every 30 s, and when it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Id of the client, one for each of its connections.
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// Its producer groups.
    #[serde(default, rename = "producerDataSet")]
    pub producers: Vec<ProducerData>,
    /// Its consumer groups.
    #[serde(default, rename = "consumerDataSet")]
    pub consumers: Vec<ConsumerData>,
    /// A hash of the rest, of clients that leave out what has not changed; else 0.
    #[serde(default, rename = "heartbeatFingerprint")]
    pub fingerprint: i32,
    /// Whether the subscriptions are left out because they have not changed.
    #[serde(default, rename = "withoutSub")]
    pub is_without_subscriptions: bool,
}

/// A producer group of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProducerData {
    /// Name.
    pub group_name: String,
}

/// A consumer group of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerData {
    /// Name.
    pub group_name: String,
    /// How it gets messages.
    #[serde(default)]
    pub consume_type: ConsumeType,
    /// Who of a group gets a message.
    #[serde(default)]
    pub message_model: MessageModel,
    /// Where it begins without a committed offset.
    #[serde(default)]
    pub consume_from_where: ConsumeFromWhere,
    /// What it subscribes to.
    #[serde(default, rename = "subscriptionDataSet")]
    pub subscriptions: Vec<SubscriptionData>,
    /// Whether it belongs to one of several units.
    #[serde(default)]
    pub unit_mode: bool,
}

/// A subscription of a consumer group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionData {
    /// Topic.
    pub topic: String,
    /// The filter: `*`, tags with `||` between, or SQL.
    #[serde(default, rename = "subString")]
    pub expression: String,
    /// `TAG` or `SQL92`; C++ clients leave it out for tags.
    #[serde(default)]
    pub expression_type: Option<String>,
    /// Grows with each change; C++ clients write it as text.
    #[serde(default, rename = "subVersion", deserialize_with = "number_or_text")]
    pub version: i64,
    /// Whether the filter is a Java class; long gone.
    #[serde(default)]
    pub class_filter_mode: bool,
}

/// Defines an enum whose values come as a name or, from C++ clients, as a number.
macro_rules! named_or_numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal / $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)*
        }

        impl Choice for $name {
            const EXPECTED: &'static str = concat!("one of ", $($text, " ",)*);

            fn of_name(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$variant),)*
                    _ => None,
                }
            }

            fn of_number(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(ChoiceVisitor(PhantomData))
            }
        }
    };
}

named_or_numbered! {
    /// How a consumer gets messages.
    ConsumeType {
        /// It pulls when its program asks: a lite pull consumer.
        Actively = "CONSUME_ACTIVELY" / 0,
        /// It pulls by itself and calls its program: a push consumer.
        #[default]
        Passively = "CONSUME_PASSIVELY" / 1,
        /// It pops.
        Pop = "CONSUME_POP" / 2,
    }
}

named_or_numbered! {
    /// Who of a group gets a message.
    MessageModel {
        /// Each client.
        Broadcasting = "BROADCASTING" / 0,
        /// One of the clients.
        #[default]
        Clustering = "CLUSTERING" / 1,
    }
}

named_or_numbered! {
    /// Where a consumer begins without a committed offset. The numbers between are forms of old, which mean the first.
    ConsumeFromWhere {
        /// At the end of the queue.
        #[default]
        LastOffset = "CONSUME_FROM_LAST_OFFSET" / 0,
        /// As [`Self::LastOffset`].
        LastOffsetThenMin = "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST" / 1,
        /// As [`Self::LastOffset`].
        MinOffset = "CONSUME_FROM_MIN_OFFSET" / 2,
        /// As [`Self::LastOffset`].
        MaxOffset = "CONSUME_FROM_MAX_OFFSET" / 3,
        /// At the beginning of the queue.
        FirstOffset = "CONSUME_FROM_FIRST_OFFSET" / 4,
        /// At an instant.
        Timestamp = "CONSUME_FROM_TIMESTAMP" / 5,
    }
}

/// A choice by name or by number.
trait Choice: Sized {
    const EXPECTED: &'static str;

    fn of_name(name: &str) -> Option<Self>;

    fn of_number(number: u64) -> Option<Self>;
}

struct ChoiceVisitor<T>(PhantomData<T>);

impl<T: Choice> Visitor<'_> for ChoiceVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(T::EXPECTED)
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<T, E> {
        T::of_name(name).ok_or_else(|| E::invalid_value(de::Unexpected::Str(name), &self))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        T::of_number(number)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = i64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number of 64 bits, or one as text")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<i64, E> {
        Ok(number)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<i64, E> {
        i64::try_from(number).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<i64, E> {
        text.parse()
            .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    deserializer.deserialize_any(NumberVisitor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body;

    #[test]
    fn a_heartbeat_of_a_java_client_is_read() {
        let text = r#"{"clientID":"10.0.0.1@7#99","consumerDataSet":[{"consumeFromWhere":"CONSUME_FROM_TIMESTAMP",
            "consumeType":"CONSUME_ACTIVELY","groupName":"g","messageModel":"BROADCASTING","subscriptionDataSet":[
            {"classFilterMode":false,"codeSet":[97],"expressionType":"TAG","subString":"a","subVersion":1700000000000,
            "tagsSet":["a"],"topic":"orders"}],"unitMode":false}],"heartbeatFingerprint":0,
            "producerDataSet":[{"groupName":"CLIENT_INNER_PRODUCER"}],"withoutSub":false}"#;
        let heartbeat: Heartbeat = body::read(text.as_bytes(), "heartbeat").expect("it is whole");
        let consumer = &heartbeat.consumers[0];
        assert_eq!(consumer.consume_type, ConsumeType::Actively);
        assert_eq!(consumer.message_model, MessageModel::Broadcasting);
        assert_eq!(consumer.consume_from_where, ConsumeFromWhere::Timestamp);
        assert_eq!(consumer.subscriptions[0].version, 1_700_000_000_000);
        assert_eq!(heartbeat.producers[0].group_name, "CLIENT_INNER_PRODUCER");
        let written = body::write(&heartbeat).expect("it can be written");
        assert_eq!(
            body::read::<Heartbeat>(&written, "heartbeat").ok(),
            Some(heartbeat)
        );
    }

    #[test]
    fn a_heartbeat_of_a_cpp_client_is_read_with_its_numbers() {
        let text = "{\"clientID\":\"c\",\"consumerDataSet\":[{\"consumeFromWhere\":4,\"consumeType\":1,\"groupName\":\"g\",\
            \"messageModel\":1,\"subscriptionDataSet\":[{\"subString\":\"*\",\"subVersion\":\"17\",\"topic\":\"t\"}]}],\
            \"producerDataSet\":[]}\n";
        let heartbeat: Heartbeat = body::read(text.as_bytes(), "heartbeat").expect("it is whole");
        let consumer = &heartbeat.consumers[0];
        assert_eq!(consumer.consume_from_where, ConsumeFromWhere::FirstOffset);
        assert_eq!(consumer.message_model, MessageModel::Clustering);
        assert_eq!(consumer.subscriptions[0].version, 17);
        assert_eq!(consumer.subscriptions[0].expression_type, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |text: &str| {
            let read = body::read::<Heartbeat>(text.as_bytes(), "heartbeat");
            read.unwrap_err().to_string()
        };
        let consumer = r#"{"clientID":"c","consumerDataSet":[{"groupName":"g","messageModel":7}]}"#;
        let said = refused(consumer);
        assert!(said.starts_with("the body is no heartbeat: "), "{said}");
        assert!(said.contains("BROADCASTING CLUSTERING"), "{said}");
        assert!(refused("{}").contains("clientID"));
    }
}
