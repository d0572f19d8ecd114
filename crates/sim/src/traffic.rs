//! Provides the traffic of a simulated broker: what producers send and take back, what consumers do with it.

use broker::Error;
use bytes::Bytes;
use engine::limits::FLOOR_AHEAD_MS;
use engine::{Delivered, Delivery, MessageHandle, NewMessage, Recall, Reschedule};
use rand::Rng;

use crate::client::{Action, Held, OpenSend, Question, Reaction, Reader};
use crate::operation::Operation;
use crate::oracle::Violation;
use crate::plan::{Canary, GROUPS, HIDE_MS_MAX, TOPICS};
use crate::world::{READERS, World, defect};

impl World {
    /// Producers send, recall and reschedule.
    pub(crate) fn produce(&mut self) -> Result<(), Violation> {
        let now_ms = self.clocks.engine_ms();
        let sends = if self.rng.random_bool(0.4) {
            self.rng.random_range(0..6)
        } else {
            0
        };
        for _ in 0..sends {
            let number = self.next_number;
            self.next_number += 1;
            self.stats.sends += 1;
            let topic = self.rng.random_range(0..TOPICS.len());
            let message_group = (topic == 1).then(|| self.rng.random_range(0..3_u8));
            let delivery = self.delivery(now_ms);
            let asked_ms = asked_ms(now_ms, delivery);
            self.oracle.record(Operation::Sending {
                number,
                topic,
                message_group,
                asked_ms,
            })?;
            let message = NewMessage {
                body: Bytes::copy_from_slice(&number.to_be_bytes()),
                message_group: message_group.map(|group| format!("line-{group}")),
                delivery,
                ..NewMessage::default()
            };
            let command = self.clients.send(
                TOPICS.get(topic).copied().unwrap_or_default(),
                OpenSend {
                    number,
                    begun_ms: now_ms,
                    asked_ms,
                },
                message,
            );
            self.push(command);
        }
        if self.next_number > 1 && self.rng.random_bool(0.1) {
            let number = self.rng.random_range(1..self.next_number);
            self.change(number, now_ms)?;
        }
        if self.plan.resets && self.rng.random_bool(0.01) {
            self.reset()?;
        }
        Ok(())
    }

    /// Moves a group back to the beginning of a topic.
    fn reset(&mut self) -> Result<(), Violation> {
        let topic = self.rng.random_range(0..TOPICS.len());
        let group = self.rng.random_range(0..GROUPS.len());
        self.oracle.record(Operation::Resetting { topic, group })?;
        if let Some((name, group)) = TOPICS.get(topic).zip(GROUPS.get(group)) {
            // Its lane does not matter.
            let command = self.clients.plain(1, move |engine, now_ms| {
                engine.reset_group(now_ms, name, group, 0)
            });
            self.push(command);
        }
        Ok(())
    }

    fn delivery(&mut self, now_ms: u64) -> Delivery {
        let delay_ms = match self.rng.random_range(0..20) {
            0..3 => 0,
            3..9 => self.rng.random_range(0..100) * u64::from(self.plan.pace),
            9..17 => self.rng.random_range(0..3_000) * u64::from(self.plan.pace),
            17..19 => self.rng.random_range(0..600_000),
            _ => self.rng.random_range(0..90_000_000),
        };
        match self.rng.random_range(0..3) {
            0 => Delivery::At {
                due_ms: now_ms + delay_ms,
            },
            1 if delay_ms == 0 => Delivery::Now,
            _ => Delivery::After { delay_ms },
        }
    }

    /// Recalls a message or moves it, by the newest handle its producer has.
    fn change(&mut self, number: u64, now_ms: u64) -> Result<(), Violation> {
        let Some(handle) = self.oracle.handle_of(number) else {
            return Ok(());
        };
        let command = if self.rng.random_bool(0.5) {
            self.oracle.record(Operation::Recalling { number })?;
            if self.plan.canary == Some(Canary::AnswersEarly) {
                self.clients.hasty_recall(number, handle)
            } else {
                self.clients.recall(number, handle)
            }
        } else {
            let delivery = self.delivery(now_ms);
            let asked_ms = asked_ms(now_ms, delivery);
            self.oracle.record(Operation::Moving { number, asked_ms })?;
            self.clients.reschedule(number, handle, delivery)
        };
        self.push(command);
        Ok(())
    }

    /// Consumers do what they have planned, and ask for more.
    pub(crate) fn consume(&mut self) -> Result<(), Violation> {
        while let Some(action) = self.clients.take_action(self.clocks.boot_us()) {
            self.act(action)?;
        }
        let pairs = TOPICS.len() * GROUPS.len();
        for index in 0..READERS {
            let (topic, group) = if index < pairs {
                (index / GROUPS.len(), index % GROUPS.len())
            } else {
                // The topics after the others hold dead letters.
                (TOPICS.len() + index - pairs, index - pairs)
            };
            self.ask(Reader { topic, group });
        }
        Ok(())
    }

    fn ask(&mut self, reader: Reader) {
        let of_reader = |question: &&Question| matches!(question, Question::Poll { reader: of, .. } if *of == reader);
        let open = self.clients.questions().filter(of_reader).count();
        let wanted = if self.drains {
            1
        } else {
            self.rng.random_range(0..4)
        };
        if open >= wanted {
            return;
        }
        let group = GROUPS.get(reader.group).copied().unwrap_or_default();
        let dead = reader.topic >= TOPICS.len();
        let topic = match TOPICS.get(reader.topic) {
            Some(topic) => (*topic).to_owned(),
            None => format!("%DLQ%{group}"),
        };
        let group = if dead { "dead" } else { group };
        let wait_ms = match self.rng.random_range(0..4) {
            _ if self.drains => 3_600_000,
            0 => 0,
            1 => self.rng.random_range(1..200),
            _ => self.rng.random_range(1..5_000) * u64::from(self.plan.pace),
        };
        let hide_ms = match self.rng.random_range(0..4) {
            _ if self.drains => HIDE_MS_MAX,
            0 => self.rng.random_range(1..300),
            1 => self.rng.random_range(1..5_000),
            _ => HIDE_MS_MAX,
        };
        let messages_max = self.rng.random_range(1..8);
        // Not drawn, so that the other seeds mean what they always meant.
        let run = !self.plan.seed.is_multiple_of(3) && !self.next_answer.is_multiple_of(4);
        let command = self.clients.poll(
            reader,
            (&topic, group),
            (messages_max, hide_ms, wait_ms),
            run,
        );
        self.push(command);
    }

    fn act(&mut self, action: Action) -> Result<(), Violation> {
        let command = match action {
            Action::Ack(held) => {
                for held in &held {
                    let (number, group) = (held.number, held.group);
                    self.oracle.record(Operation::Acking { number, group })?;
                    if self.plan.canary == Some(Canary::AckDropped) {
                        self.oracle.record(Operation::Acked { number, group })?;
                    }
                }
                if self.plan.canary == Some(Canary::AckDropped) {
                    return Ok(());
                }
                self.clients.ack(held)
            }
            Action::GiveBack { held, delay_ms } => {
                self.oracle.record(Operation::Ending {
                    number: held.number,
                    group: held.group,
                })?;
                let handle = held.handle;
                self.clients.end(held, move |engine, now_ms| {
                    engine.retry_later(now_ms, &handle, delay_ms)
                })
            }
            Action::Return(held) => {
                self.oracle.record(Operation::Ending {
                    number: held.number,
                    group: held.group,
                })?;
                let handle = held.handle;
                self.clients.end(held, move |engine, now_ms| {
                    engine.give_back(now_ms, &handle)
                })
            }
            Action::Hide { held, hide_ms } => {
                self.oracle.record(Operation::Ending {
                    number: held.number,
                    group: held.group,
                })?;
                let handle = held.handle;
                self.clients.end(held, move |engine, now_ms| {
                    engine.change_invisible(now_ms, &handle, hide_ms)
                })
            }
            Action::Bury(held) => {
                self.oracle.record(Operation::Ending {
                    number: held.number,
                    group: held.group,
                })?;
                let handle = held.handle;
                self.clients.end(held, move |engine, now_ms| {
                    engine.dead_letter(now_ms, &handle)
                })
            }
        };
        self.push(command);
        Ok(())
    }

    /// Records for the oracle what has been answered, and plans what follows from it.
    pub(crate) fn take_answers(&mut self, now_ms: u64) -> Result<(), Violation> {
        for (question, reaction) in self.clients.answers() {
            match (question, reaction) {
                (Question::Send(open), Reaction::Sent(Ok(sent))) => {
                    self.sent(open, now_ms, sent.handle)?;
                }
                (Question::Send(open), Reaction::Sent(Err(error))) if is_refusal(&error) => {
                    self.oracle.record(Operation::Refused {
                        number: open.number,
                    })?;
                }
                (
                    Question::Poll {
                        reader, hide_ms, ..
                    },
                    Reaction::Delivered(Ok(delivered)),
                ) => {
                    self.delivered(reader, now_ms + hide_ms, &delivered)?;
                }
                (Question::Ack(held), Reaction::Acked(Ok(results))) => {
                    for (held, result) in held.iter().zip(results) {
                        let (number, group) = (held.number, held.group);
                        self.oracle.record(match result {
                            Ok(()) => Operation::Acked { number, group },
                            Err(_) => Operation::NotAcked { number, group },
                        })?;
                    }
                }
                (Question::Recall(number), Reaction::Recalled(Ok(verdict))) => {
                    self.oracle.record(Operation::Recalled {
                        number,
                        verdict,
                        now_ms,
                    })?;
                }
                (Question::Move(number), Reaction::Moved(Ok(verdict))) => {
                    self.oracle.record(moved(number, verdict, now_ms))?;
                }
                (Question::End(held), Reaction::Plain) => {
                    self.oracle.record(Operation::Ended {
                        number: held.number,
                        group: held.group,
                    })?;
                }
                // Nothing is known of an outcome that was not reported.
                _ => {}
            }
        }
        Ok(())
    }

    fn sent(
        &mut self,
        open: OpenSend,
        now_ms: u64,
        handle: MessageHandle,
    ) -> Result<(), Violation> {
        let OpenSend {
            number,
            begun_ms,
            asked_ms,
        } = open;
        // Nothing may be written below the floor after a restart, and that is all there is to wait.
        let latest_ms = asked_ms + (now_ms - begun_ms) + FLOOR_AHEAD_MS + 1;
        let due_ms = handle.place.due_ms;
        if due_ms > latest_ms {
            let what = format!("message {number} is due {} ms late", due_ms - asked_ms);
            return Err(Violation { invariant: 8, what });
        }
        self.oracle.record(Operation::Sent { number, handle })
    }

    fn delivered(
        &mut self,
        reader: Reader,
        until_ms: u64,
        delivered: &[Delivered],
    ) -> Result<(), Violation> {
        let now_ms = self.clocks.engine_ms();
        let group = reader.group;
        let answer = self.next_answer;
        self.next_answer += 1;
        let mut acks = Vec::new();
        for one in delivered {
            let Ok(number) = <[u8; 8]>::try_from(one.message.body.as_ref()).map(u64::from_be_bytes)
            else {
                return defect("a body is damaged", one.message.message_id.as_str());
            };
            let handle = one.handle;
            if reader.topic >= TOPICS.len() {
                self.oracle.record(Operation::Dead { number, group })?;
                let command = self.clients.plain(handle.topic, move |engine, now_ms| {
                    engine.ack(now_ms, &handle)
                });
                self.push(command);
                continue;
            }
            self.oracle.record(Operation::Delivered {
                number,
                group,
                handle,
                now_ms,
                until_ms,
                answer,
            })?;
            let held = Held {
                number,
                group,
                handle,
            };
            if let Some(held) = self.react(held) {
                acks.push(held);
            }
        }
        if !acks.is_empty() {
            let at_us = self.soon_us(2_000);
            self.clients.plan(at_us, Action::Ack(acks));
        }
        Ok(())
    }

    pub(crate) fn soon_us(&mut self, within_us: i64) -> i64 {
        self.clocks.boot_us() + self.rng.random_range(0..within_us)
    }

    /// What a consumer does with a message; answers if it just acknowledges it.
    fn react(&mut self, held: Held) -> Option<Held> {
        if self.drains {
            return Some(held);
        }
        match self.rng.random_range(0..100) {
            0..70 => return Some(held),
            70..78 => {
                // Late, and perhaps twice.
                let at_us = self.soon_us(90_000_000);
                self.clients.plan(at_us, Action::Ack(vec![held]));
                if self.rng.random_bool(0.5) {
                    let again_us = at_us + self.rng.random_range(0..30_000_000);
                    self.clients.plan(again_us, Action::Ack(vec![held]));
                }
            }
            78..90 => {
                let some_ms = self.rng.random_range(0..3_000) * u64::from(self.plan.pace);
                let delay_ms = self.rng.random_bool(0.5).then_some(some_ms);
                let at_us = self.soon_us(500_000);
                self.clients
                    .plan(at_us, Action::GiveBack { held, delay_ms });
            }
            90..94 => {
                let hide_ms = self.rng.random_range(0..10_000);
                let at_us = self.soon_us(500_000);
                self.clients.plan(at_us, Action::Hide { held, hide_ms });
                let ack_us = self.soon_us(12_000_000);
                self.clients.plan(ack_us, Action::Ack(vec![held]));
            }
            94..96 => {
                let at_us = self.soon_us(500_000);
                self.clients.plan(at_us, Action::Bury(held));
            }
            96..98 => {
                let at_us = self.soon_us(500_000);
                self.clients.plan(at_us, Action::Return(held));
            }
            // It stalls for ever.
            _ => {}
        }
        None
    }
}

/// Whether nothing has been changed for sure.
fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::Refused(refusal) if !matches!(refusal, engine::Error::Store(_)))
}

fn moved(number: u64, verdict: Reschedule, now_ms: u64) -> Operation {
    let verdict = match verdict {
        Reschedule::Moved(sent) => {
            return Operation::Moved {
                number,
                handle: sent.handle,
            };
        }
        Reschedule::TooLate => Recall::TooLate,
        Reschedule::Unknown => Recall::Unknown,
    };
    Operation::NotMoved {
        number,
        verdict,
        now_ms,
    }
}

/// Before when a message must not come.
fn asked_ms(now_ms: u64, delivery: Delivery) -> u64 {
    match delivery {
        Delivery::After { delay_ms } => now_ms + delay_ms,
        Delivery::At { due_ms } => std::cmp::max(due_ms, now_ms),
        _ => now_ms,
    }
}
