//! Defines the operations of the broker's clients that the oracle judges by, and their form as lines of text.

use std::fmt;
use std::str::FromStr;

use engine::{MessageHandle, Place, Recall, ReceiptHandle};

/// Something a client did, or an answer it got. Numbers name messages; they are their bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A send begins; the message is not to be delivered before `asked_ms`.
    Sending {
        /// The message.
        number: u64,
        /// The topic, by its index.
        topic: usize,
        /// The message group.
        message_group: Option<u8>,
        /// Earliest due time, in ms of the engine clock.
        asked_ms: u64,
    },
    /// A send was answered with success.
    Sent {
        /// The message.
        number: u64,
        /// Its handle.
        handle: MessageHandle,
    },
    /// A send was refused.
    Refused {
        /// The message.
        number: u64,
    },
    /// A recall begins.
    Recalling {
        /// The message.
        number: u64,
    },
    /// A recall was answered.
    Recalled {
        /// The message.
        number: u64,
        /// The answer.
        verdict: Recall,
        /// When it was answered, in ms of the engine clock.
        now_ms: u64,
    },
    /// A reschedule begins; the message is not to be delivered before `asked_ms` if it succeeds.
    Moving {
        /// The message.
        number: u64,
        /// Earliest due time, in ms of the engine clock.
        asked_ms: u64,
    },
    /// A reschedule was answered with success.
    Moved {
        /// The message.
        number: u64,
        /// Its new handle.
        handle: MessageHandle,
    },
    /// A reschedule was answered without one.
    NotMoved {
        /// The message.
        number: u64,
        /// [`Recall::TooLate`] or [`Recall::Unknown`].
        verdict: Recall,
        /// When it was answered, in ms of the engine clock.
        now_ms: u64,
    },
    /// A message was delivered.
    Delivered {
        /// The message.
        number: u64,
        /// The consumer group, by its index.
        group: usize,
        /// The delivery.
        handle: ReceiptHandle,
        /// When, in ms of the engine clock.
        now_ms: u64,
        /// Before when it is not to come again, in ms of the engine clock.
        until_ms: u64,
        /// The number of the answer it came with.
        answer: u64,
    },
    /// A consumer group is moved back to the beginning of a topic, or may be from now on.
    Resetting {
        /// The topic, by its index.
        topic: usize,
        /// The consumer group, by its index.
        group: usize,
    },
    /// A delivery ends, or may end from now on: a negative acknowledgement, a shorter lease.
    Ending {
        /// The message.
        number: u64,
        /// The consumer group, by its index.
        group: usize,
    },
    /// What ends a delivery was answered.
    Ended {
        /// The message.
        number: u64,
        /// The consumer group, by its index.
        group: usize,
    },
    /// An acknowledgement begins.
    Acking {
        /// The message.
        number: u64,
        /// The consumer group, by its index.
        group: usize,
    },
    /// An acknowledgement was refused, as one of an expired handle.
    NotAcked {
        /// The message.
        number: u64,
        /// The consumer group, by its index.
        group: usize,
    },
    /// An acknowledgement was answered with success.
    Acked {
        /// The message.
        number: u64,
        /// The consumer group, by its index.
        group: usize,
    },
    /// A message came from the dead-letter topic of a group.
    Dead {
        /// The message.
        number: u64,
        /// The consumer group, by its index.
        group: usize,
    },
    /// The broker ended; what was not answered is unknown.
    Crashed {
        /// Leases that were given in turns up to this one are on the disk; 0 if that is not known.
        noted_turn: u64,
    },
}

fn verdict_name(verdict: Recall) -> &'static str {
    match verdict {
        Recall::Cancelled => "cancelled",
        Recall::TooLate => "late",
        Recall::Unknown => "unknown",
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sending {
                number,
                topic,
                message_group,
                asked_ms,
            } => {
                // Message groups are counted from 1 here; 0 is none.
                let message_group = message_group.map_or(0, |group| u64::from(group) + 1);
                write!(to, "sending {number} {topic} {message_group} {asked_ms}")
            }
            Self::Sent { number, handle } => write!(to, "sent {number} {handle}"),
            Self::Refused { number } => write!(to, "refused {number}"),
            Self::Recalling { number } => write!(to, "recalling {number}"),
            Self::Recalled {
                number,
                verdict,
                now_ms,
            } => {
                write!(to, "recalled {number} {} {now_ms}", verdict_name(*verdict))
            }
            Self::Moving { number, asked_ms } => write!(to, "moving {number} {asked_ms}"),
            Self::Moved { number, handle } => write!(to, "moved {number} {handle}"),
            Self::NotMoved {
                number,
                verdict,
                now_ms,
            } => {
                write!(to, "not-moved {number} {} {now_ms}", verdict_name(*verdict))
            }
            Self::Delivered {
                number,
                group,
                handle,
                now_ms,
                until_ms,
                answer,
            } => {
                write!(
                    to,
                    "delivered {number} {group} {handle} {now_ms} {until_ms} {answer}"
                )
            }
            Self::Resetting { topic, group } => write!(to, "resetting {topic} {group}"),
            Self::Ending { number, group } => write!(to, "ending {number} {group}"),
            Self::Ended { number, group } => write!(to, "ended {number} {group}"),
            Self::Acking { number, group } => write!(to, "acking {number} {group}"),
            Self::Acked { number, group } => write!(to, "acked {number} {group}"),
            Self::NotAcked { number, group } => write!(to, "not-acked {number} {group}"),
            Self::Dead { number, group } => write!(to, "dead {number} {group}"),
            Self::Crashed { noted_turn } => write!(to, "crashed {noted_turn}"),
        }
    }
}

/// A line is not an operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an operation: {0:?}")]
pub struct NotAnOperation(String);

impl FromStr for Operation {
    type Err = NotAnOperation;

    fn from_str(line: &str) -> Result<Self, NotAnOperation> {
        parse(line).ok_or_else(|| NotAnOperation(line.to_owned()))
    }
}

fn next<T: FromStr>(words: &mut std::str::SplitWhitespace<'_>) -> Option<T> {
    words.next()?.parse().ok()
}

fn parse(line: &str) -> Option<Operation> {
    let words = &mut line.split_whitespace();
    let name = words.next()?;
    if name == "crashed" {
        let noted_turn = next(words)?;
        return Some(Operation::Crashed { noted_turn });
    }
    let number = next(words)?;
    Some(match name {
        "sending" => Operation::Sending {
            number,
            topic: next(words)?,
            message_group: next::<u8>(words)?.checked_sub(1),
            asked_ms: next(words)?,
        },
        "sent" => Operation::Sent {
            number,
            handle: next(words)?,
        },
        "refused" => Operation::Refused { number },
        "recalling" => Operation::Recalling { number },
        "recalled" => Operation::Recalled {
            number,
            verdict: verdict(words)?,
            now_ms: next(words)?,
        },
        "moving" => Operation::Moving {
            number,
            asked_ms: next(words)?,
        },
        "moved" => Operation::Moved {
            number,
            handle: next(words)?,
        },
        "not-moved" => Operation::NotMoved {
            number,
            verdict: verdict(words)?,
            now_ms: next(words)?,
        },
        _ => return parse_of_group(name, number, words),
    })
}

fn parse_of_group(
    name: &str,
    number: u64,
    words: &mut std::str::SplitWhitespace<'_>,
) -> Option<Operation> {
    let group = next(words)?;
    Some(match name {
        "delivered" => Operation::Delivered {
            number,
            group,
            handle: next(words)?,
            now_ms: next(words)?,
            until_ms: next(words)?,
            answer: next(words)?,
        },
        "resetting" => Operation::Resetting {
            topic: usize::try_from(number).ok()?,
            group,
        },
        "ending" => Operation::Ending { number, group },
        "ended" => Operation::Ended { number, group },
        "acking" => Operation::Acking { number, group },
        "acked" => Operation::Acked { number, group },
        "not-acked" => Operation::NotAcked { number, group },
        "dead" => Operation::Dead { number, group },
        _ => return None,
    })
}

fn verdict(words: &mut std::str::SplitWhitespace<'_>) -> Option<Recall> {
    let name = words.next()?;
    [Recall::Cancelled, Recall::TooLate, Recall::Unknown]
        .into_iter()
        .find(|verdict| verdict_name(*verdict) == name)
}

/// The place of a message handle or a receipt, in short.
pub(crate) fn place_text(place: Place) -> String {
    format!("{}/{}", place.due_ms, place.sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operations() -> Vec<Operation> {
        let place = Place {
            due_ms: 7,
            sequence: 9,
            level: 1,
        };
        let handle = MessageHandle {
            topic: 1,
            queue: 2,
            place,
            identity: 3,
        };
        let receipt = ReceiptHandle {
            topic: 1,
            group: 4,
            generation: 1,
            queue: 2,
            place,
            attempt: 1,
            returned: 0,
            retry: Some(place),
        };
        let number = 5;
        vec![
            Operation::Sending {
                number,
                topic: 1,
                message_group: Some(0),
                asked_ms: 8,
            },
            Operation::Sending {
                number,
                topic: 1,
                message_group: None,
                asked_ms: 8,
            },
            Operation::Sent { number, handle },
            Operation::Refused { number },
            Operation::Recalling { number },
            Operation::Recalled {
                number,
                verdict: Recall::TooLate,
                now_ms: 1,
            },
            Operation::Moving {
                number,
                asked_ms: 3,
            },
            Operation::Moved { number, handle },
            Operation::NotMoved {
                number,
                verdict: Recall::Unknown,
                now_ms: 1,
            },
            Operation::Delivered {
                number,
                group: 1,
                handle: receipt,
                now_ms: 2,
                until_ms: 3,
                answer: 4,
            },
            Operation::Resetting { topic: 1, group: 0 },
            Operation::Ending { number, group: 0 },
            Operation::Ended { number, group: 0 },
            Operation::Acking { number, group: 0 },
            Operation::Acked { number, group: 0 },
            Operation::NotAcked { number, group: 0 },
            Operation::Dead { number, group: 0 },
            Operation::Crashed { noted_turn: 9 },
        ]
    }

    #[test]
    fn facts_come_back_from_their_lines() {
        for operation in operations() {
            assert_eq!(operation.to_string().parse(), Ok(operation));
        }
        assert!("sent x".parse::<Operation>().is_err() && "".parse::<Operation>().is_err());
    }
}
