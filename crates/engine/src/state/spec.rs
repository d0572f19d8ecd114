//! Defines what topics and consumer groups are created with, what names they may have, and their rows on disk.

use crate::error::{Error, within};
use crate::format::codec::{Reader, put_bytes, put_varint};
use crate::format::record::seal;
use crate::ids::TopicKind;
use crate::limits::{
    BACKOFF_MS_MAX, BACKOFF_STEPS_MAX, GROUP_NAME_BYTES_MAX, QUEUES_MAX, TOPIC_NAME_BYTES_MAX,
};

/// Prefix of the topic that receives the dead letters of a group.
pub const DEAD_LETTER_PREFIX: &str = "%DLQ%";

/// What a topic is created with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: TopicKind,
    /// Number of message queues, 1 to 1,024.
    pub queues: u16,
    /// Whether a message is found by its keys and by an id its producer chose; costs one small row each.
    pub indexed: bool,
    /// Bytes of keys and values the topic may hold, retained ones included; `None` for no bound.
    pub quota_bytes: Option<u64>,
}

impl TopicSpec {
    /// A topic with one message queue, indexed, without a quota.
    pub fn new(name: impl Into<String>, kind: TopicKind) -> Self {
        Self {
            name: name.into(),
            kind,
            queues: 1,
            indexed: true,
            quota_bytes: None,
        }
    }

    /// The same with this many message queues.
    #[must_use]
    pub fn with_queues(self, queues: u16) -> Self {
        Self { queues, ..self }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        check_name("topic name", &self.name, TOPIC_NAME_BYTES_MAX)?;
        if self.queues == 0 {
            return Err(Error::Invalid {
                field: "queues",
                reason: "must be at least 1",
            });
        }
        within("queues", usize::from(self.queues), usize::from(QUEUES_MAX))
    }

    /// The settings that differ from `asked`, as text; empty if none does.
    pub(crate) fn differences(&self, asked: &Self) -> String {
        let quota = |spec: &Self| match spec.quota_bytes {
            Some(bytes) => bytes.to_string(),
            None => "none".to_owned(),
        };
        list_differences(&[
            ("kind", self.kind.to_string(), asked.kind.to_string()),
            ("queues", self.queues.to_string(), asked.queues.to_string()),
            (
                "indexed",
                self.indexed.to_string(),
                asked.indexed.to_string(),
            ),
            ("quota in bytes", quota(self), quota(asked)),
        ])
    }

    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        seal(buffer, |buffer| {
            put_bytes(buffer, self.name.as_bytes());
            put_varint(buffer, self.kind.code());
            put_varint(buffer, u64::from(self.queues));
            put_varint(buffer, u64::from(self.indexed));
            put_varint(
                buffer,
                self.quota_bytes.map_or(0, |bytes| bytes.saturating_add(1)),
            );
        });
    }

    pub(crate) fn read(reader: &mut Reader) -> Result<Self, &'static str> {
        Ok(Self {
            name: reader.text()?,
            kind: TopicKind::of_code(reader.varint()?)?,
            queues: match u16::try_from(reader.varint()?) {
                Ok(0) => return Err("a topic has no queue"),
                Ok(queues) => queues,
                Err(_) => return Err("a queue count is too large"),
            },
            indexed: reader.varint()? != 0,
            quota_bytes: reader.varint()?.checked_sub(1),
        })
    }
}

/// Where a new group begins to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartFrom {
    /// At the oldest message that is still retained.
    #[default]
    Earliest,
    /// With messages that become due after the group first asks.
    Latest,
}

/// What a consumer group is created with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSpec {
    /// Its name.
    pub name: String,
    /// Whether messages of one message group are delivered one at a time, in order.
    pub fifo: bool,
    /// Deliveries after which a message goes to `%DLQ%<group>`, at least 1.
    pub attempts_max: u16,
    /// Wait before delivery 2, 3 and so on after a negative acknowledgement, in ms; the last one repeats.
    pub backoff_ms: Vec<u64>,
    /// Where a new group begins to read.
    pub start_from: StartFrom,
}

impl GroupSpec {
    /// A group with the retry policy of Apache RocketMQ: 17 deliveries, 10 s 30 s 1 m .. 2 h apart.
    pub fn new(name: impl Into<String>) -> Self {
        const MINUTE: u64 = 60_000;
        let mut backoff_ms = vec![10_000, 30_000];
        backoff_ms.extend((1..=10).map(|minutes| minutes * MINUTE));
        backoff_ms.extend([20 * MINUTE, 30 * MINUTE, 60 * MINUTE, 120 * MINUTE]);
        Self {
            name: name.into(),
            fifo: false,
            attempts_max: 17,
            backoff_ms,
            start_from: StartFrom::Earliest,
        }
    }

    /// Wait after the failed delivery `attempt`, in ms.
    pub fn backoff_after_ms(&self, attempt: u16) -> u64 {
        let step = usize::from(attempt.saturating_sub(1));
        self.backoff_ms
            .get(step)
            .or_else(|| self.backoff_ms.last())
            .copied()
            .unwrap_or(0)
    }

    /// The topic of its dead letters.
    pub fn dead_letter_topic(&self) -> String {
        format!("{DEAD_LETTER_PREFIX}{}", self.name)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        check_name("consumer group name", &self.name, GROUP_NAME_BYTES_MAX)?;
        if self.attempts_max == 0 {
            return Err(Error::Invalid {
                field: "attempts_max",
                reason: "must be at least 1",
            });
        }
        within("backoff_ms", self.backoff_ms.len(), BACKOFF_STEPS_MAX)?;
        let longest_ms = self.backoff_ms.iter().copied().max().unwrap_or(0);
        if longest_ms > BACKOFF_MS_MAX {
            return Err(Error::OverLimit {
                field: "backoff in ms",
                found: longest_ms,
                limit: BACKOFF_MS_MAX,
            });
        }
        Ok(())
    }

    /// The settings that differ from `asked`, as text; empty if none does.
    pub(crate) fn differences(&self, asked: &Self) -> String {
        list_differences(&[
            ("fifo", self.fifo.to_string(), asked.fifo.to_string()),
            (
                "attempts_max",
                self.attempts_max.to_string(),
                asked.attempts_max.to_string(),
            ),
            (
                "backoff in ms",
                format!("{:?}", self.backoff_ms),
                format!("{:?}", asked.backoff_ms),
            ),
            (
                "start",
                format!("{:?}", self.start_from),
                format!("{:?}", asked.start_from),
            ),
        ])
    }

    pub(crate) fn encode(&self, last_seen_ms: u64, buffer: &mut Vec<u8>) {
        seal(buffer, |buffer| {
            put_bytes(buffer, self.name.as_bytes());
            put_varint(buffer, u64::from(self.fifo));
            put_varint(buffer, u64::from(self.attempts_max));
            put_varint(buffer, u64::from(self.start_from == StartFrom::Latest));
            put_varint(buffer, last_seen_ms);
            put_varint(buffer, self.backoff_ms.len() as u64);
            for wait_ms in &self.backoff_ms {
                put_varint(buffer, *wait_ms);
            }
        });
    }

    pub(crate) fn read(reader: &mut Reader) -> Result<(Self, u64), &'static str> {
        let name = reader.text()?;
        let fifo = reader.varint()? != 0;
        let attempts_max =
            u16::try_from(reader.varint()?).map_err(|_| "an attempt count is too large")?;
        let start_from = if reader.varint()? == 0 {
            StartFrom::Earliest
        } else {
            StartFrom::Latest
        };
        let last_seen_ms = reader.varint()?;
        let mut backoff_ms = Vec::new();
        for _ in 0..reader.length()? {
            backoff_ms.push(reader.varint()?);
        }
        Ok((
            Self {
                name,
                fifo,
                attempts_max,
                backoff_ms,
                start_from,
            },
            last_seen_ms,
        ))
    }
}

/// Lists the settings whose value is not the one asked for.
fn list_differences(settings: &[(&str, String, String)]) -> String {
    let differing = settings.iter().filter(|(_, has, asked)| has != asked);
    let listed = differing.map(|(name, has, asked)| format!("{name} is {has}, not {asked}"));
    listed.collect::<Vec<_>>().join("; ")
}

/// Letters, digits and `_ - % | .`, as Apache RocketMQ allows.
fn check_name(field: &'static str, name: &str, limit: usize) -> Result<(), Error> {
    within(field, name.len(), limit)?;
    if name.is_empty() {
        return Err(Error::Invalid {
            field,
            reason: "must not be empty",
        });
    }
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_-%|.".contains(&byte))
    {
        return Err(Error::Invalid {
            field,
            reason: "may hold letters, digits and _ - % | . only",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record::open;
    use crate::store::Space;
    use bytes::Bytes;

    #[test]
    fn names_are_checked_with_field_and_limit() {
        for (name, expected) in [
            ("", "must not be empty"),
            ("a b", "letters, digits"),
            (&"x".repeat(128), "topic name is 128"),
        ] {
            let error = TopicSpec::new(name, TopicKind::Delay)
                .check()
                .expect_err(name);
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert!(
            TopicSpec::new("%DLQ%a-b_c|d.e", TopicKind::Normal)
                .check()
                .is_ok()
        );
        assert!(
            TopicSpec::new("a", TopicKind::Normal)
                .with_queues(0)
                .check()
                .is_err()
        );
    }

    #[test]
    fn specs_come_back_from_their_records() {
        let spec = TopicSpec {
            quota_bytes: Some(7),
            queues: 3,
            ..TopicSpec::new("t", TopicKind::Mixed)
        };
        let mut value = Vec::new();
        spec.encode(&mut value);
        let read = open(Space::Meta, b"k", &Bytes::from(value), TopicSpec::read)
            .expect("an intact record");
        assert_eq!(read, spec);

        let spec = GroupSpec {
            fifo: true,
            start_from: StartFrom::Latest,
            ..GroupSpec::new("g")
        };
        let mut value = Vec::new();
        spec.encode(9, &mut value);
        let read = open(Space::Meta, b"k", &Bytes::from(value), GroupSpec::read)
            .expect("an intact record");
        assert_eq!(read, (spec, 9));
    }

    #[test]
    fn backoff_repeats_its_last_step() {
        let spec = GroupSpec::new("g");
        assert_eq!(spec.backoff_after_ms(1), 10_000);
        assert_eq!(spec.backoff_after_ms(16), 7_200_000);
        assert_eq!(spec.backoff_after_ms(40), 7_200_000);
    }
}
