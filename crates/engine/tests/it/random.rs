//! Runs random commands, random points at which changes are applied and durable, and random crashes, and compares
//! every answer with the plain model.

use std::collections::{BTreeMap, BTreeSet};

use engine::{
    Config, Delivered, Delivery, Engine, Error, GroupSpec, Limits, MessageHandle, NewMessage,
    Place, Recall, ReceiptHandle, ReceiveRequest, Reschedule, TagFilter, TopicKind, TopicSpec,
};
use proptest::prelude::*;

use crate::history::History;
use crate::model::{
    ATTEMPTS_MAX, BACKOFF_MS, Line, Model, RELEASED, Sent, Standing, State, Sub, is_fifo,
};
use crate::script::START_MS;

const TOPICS: [&str; 2] = ["plain", "grouped"];
const GROUPS: [&str; 2] = ["plain", "fifo"];
const DELAYS_MS: [u64; 10] = [0, 0, 1, 5, 40, 150, 199, 1_000, 30_000, 80_000_000];

#[derive(Clone, Debug)]
enum Step {
    Send {
        topic: usize,
        delay: usize,
        group: u8,
        key: u8,
    },
    Receive {
        sub: Sub,
        max: usize,
        hide_ms: u64,
        run: bool,
    },
    Ack(usize),
    Nack {
        pick: usize,
        delay_ms: Option<u64>,
    },
    Hide {
        pick: usize,
        hide_ms: u64,
    },
    DeadLetter(usize),
    Recall(usize),
    Move {
        pick: usize,
        delay: usize,
    },
    Reset {
        sub: Sub,
        back_ms: u64,
    },
    Advance(u64),
    Tick,
    Apply,
    Sync(usize),
    Poll(Sub),
    Crash(usize),
    Look {
        topic: usize,
        key: u8,
        max: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sub = || (0..2_usize, 0..2_usize);
    let wait = prop_oneof![
        Just(0_u64),
        1..50_u64,
        100..2_000_u64,
        Just(30_000),
        Just(3_700_000)
    ];
    let hide = || prop_oneof![Just(0_u64), Just(10), Just(1_000), Just(60_000)];
    let step = prop_oneof![
        8 => (0..2_usize, 0..DELAYS_MS.len(), 0..4_u8, 0..3_u8)
            .prop_map(|(topic, delay, group, key)| Step::Send { topic, delay, group, key }),
        8 => (sub(), 1..6_usize, hide(), any::<bool>())
            .prop_map(|(sub, max, hide_ms, run)| Step::Receive { sub, max, hide_ms, run }),
        6 => any::<usize>().prop_map(Step::Ack),
        3 => (any::<usize>(), proptest::option::of(0..300_u64))
            .prop_map(|(pick, delay_ms)| Step::Nack { pick, delay_ms }),
        1 => (any::<usize>(), hide()).prop_map(|(pick, hide_ms)| Step::Hide { pick, hide_ms }),
        1 => any::<usize>().prop_map(Step::DeadLetter),
        3 => any::<usize>().prop_map(Step::Recall),
        3 => (any::<usize>(), 0..DELAYS_MS.len()).prop_map(|(pick, delay)| Step::Move { pick, delay }),
        1 => (sub(), prop_oneof![Just(0_u64), 0..5_000_u64, Just(40_000_000)])
            .prop_map(|(sub, back_ms)| Step::Reset { sub, back_ms }),
        6 => wait.prop_map(Step::Advance),
        4 => Just(Step::Tick),
        6 => Just(Step::Apply),
        6 => any::<usize>().prop_map(Step::Sync),
        3 => sub().prop_map(Step::Poll),
        2 => any::<usize>().prop_map(Step::Crash),
        1 => (0..2_usize, 0..3_u8, 1..6_usize).prop_map(|(topic, key, max)| Step::Look { topic, key, max }),
    ];
    proptest::collection::vec(step, 0..80)
}

fn config(head_messages_max: usize, held_bytes_max: usize) -> Config {
    Config {
        limits: Limits {
            head_messages_max,
            held_bytes_max,
            ..Limits::default()
        },
        // Partitions are let go of in other tests; here the model keeps everything.
        retention_ms: 20 * 366 * 86_400_000,
        ..Config::default()
    }
}

/// A delivery whose handle is held.
#[derive(Clone, Copy, Debug)]
struct Held {
    sub: Sub,
    number: u64,
    handle: ReceiptHandle,
    /// Resets of the group before it.
    resets: u64,
}

struct Run {
    config: Config,
    engine: Option<Engine<History>>,
    model: Model,
    now_ms: u64,
    next_number: u64,
    /// All handles a message ever had.
    handles: Vec<(u64, MessageHandle)>,
    held: Vec<Held>,
    made_ids: BTreeMap<u64, String>,
    keys: BTreeMap<u64, u8>,
    /// Epochs applied in the middle of a receive: which of its leases they hold is not known here.
    torn: BTreeSet<usize>,
}

const SUBS: [Sub; 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];

fn number_of(body: &[u8]) -> u64 {
    u64::from_be_bytes(body.try_into().unwrap())
}

impl Run {
    fn new(config: Config) -> Self {
        let engine = Engine::open(History::default(), config.clone()).unwrap();
        let mut run = Self {
            config,
            engine: Some(engine),
            model: Model::new(State::default()),
            now_ms: START_MS,
            next_number: 0,
            handles: Vec::new(),
            held: Vec::new(),
            made_ids: BTreeMap::new(),
            keys: BTreeMap::new(),
            torn: BTreeSet::new(),
        };
        for name in TOPICS {
            run.engine()
                .create_topic(TopicSpec::new(name, TopicKind::Mixed).with_queues(2))
                .unwrap();
        }
        for (number, name) in GROUPS.iter().enumerate() {
            let spec = GroupSpec {
                fifo: is_fifo(number),
                attempts_max: ATTEMPTS_MAX,
                backoff_ms: BACKOFF_MS.to_vec(),
                ..GroupSpec::new(*name)
            };
            run.engine().create_group(START_MS, spec).unwrap();
        }
        for sub in SUBS {
            run.receive(sub, 1, 0, false);
        }
        run.apply();
        run.sync(usize::MAX);
        run
    }

    fn engine(&mut self) -> &mut Engine<History> {
        self.engine.as_mut().unwrap()
    }

    /// The engine may have applied its changes within a command.
    fn follow(&mut self) {
        while (self.model.snapshots.len() as u64) <= self.engine.as_ref().unwrap().applied_epoch() {
            self.model.applied(self.now_ms);
        }
    }

    fn apply(&mut self) {
        let now_ms = self.now_ms;
        self.engine().apply(now_ms).unwrap();
        self.follow();
    }

    fn sync(&mut self, pick: usize) {
        let (from, to) = (self.model.durable, self.model.snapshots.len() - 1);
        let epoch = if pick == usize::MAX {
            to
        } else {
            from + pick % (to - from + 1)
        };
        self.engine().durable(epoch as u64);
        self.model.synced(epoch);
    }

    fn tick(&mut self) {
        let now_ms = self.now_ms;
        self.engine().tick(now_ms).unwrap();
        self.engine().stage_notes();
        self.model.advance(now_ms);
        for sub in SUBS {
            self.model.end_leases(now_ms, sub);
        }
        self.follow();
    }

    fn settle(&mut self) {
        for _ in 0..3 {
            self.tick();
            self.apply();
            self.sync(usize::MAX);
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Send {
                topic,
                delay,
                group,
                key,
            } => self.send(topic, DELAYS_MS[delay], group, key),
            Step::Receive {
                sub,
                max,
                hide_ms,
                run,
            } => drop(self.receive(sub, max, hide_ms, run)),
            Step::Ack(pick) => self.ack(pick),
            Step::Nack { pick, delay_ms } => self.nack(pick, delay_ms),
            Step::Hide { pick, hide_ms } => self.hide(pick, hide_ms),
            Step::DeadLetter(pick) => self.dead_letter(pick),
            Step::Recall(pick) => self.recall(pick),
            Step::Move { pick, delay } => self.reschedule(pick, DELAYS_MS[delay]),
            Step::Reset { sub, back_ms } => self.reset(sub, back_ms),
            Step::Advance(wait_ms) => self.now_ms += wait_ms,
            Step::Tick => self.tick(),
            Step::Apply => self.apply(),
            Step::Sync(pick) => self.sync(pick),
            Step::Poll(sub) => self.poll(sub),
            Step::Crash(pick) => self.crash(pick),
            Step::Look { topic, key, max } => self.look(topic, key, max),
        }
        self.compare_counts();
    }

    fn send(&mut self, topic: usize, delay_ms: u64, group: u8, key: u8) {
        let (now_ms, number) = (self.now_ms, self.next_number);
        let group = Some(group).filter(|_| topic == 1 && group > 0);
        let message = NewMessage {
            body: number.to_be_bytes().to_vec().into(),
            message_group: group.map(|group| group.to_string()),
            keys: vec![format!("k{key}")],
            delivery: Delivery::After { delay_ms },
            ..NewMessage::default()
        };
        let sent = self.engine().send(now_ms, TOPICS[topic], &message).unwrap();
        let line = Line::Queue(topic, sent.handle.queue);
        let expected_ms = self.model.place_ms(line, now_ms, now_ms + delay_ms);
        assert_eq!(sent.due_ms(), expected_ms, "due time of {number}");
        self.next_number += 1;
        self.handles.push((number, sent.handle));
        self.made_ids.insert(number, sent.made_message_id());
        self.keys.insert(number, key);
        let sent = Sent {
            topic,
            queue: sent.handle.queue,
            place: sent.handle.place,
            group,
            cancelled: false,
            standing: BTreeMap::new(),
        };
        self.model.append(number, sent);
    }

    fn receive(&mut self, sub: Sub, max: usize, hide_ms: u64, run: bool) -> usize {
        let now_ms = self.now_ms;
        let request = ReceiveRequest {
            topic: TOPICS[sub.1].into(),
            group: GROUPS[sub.0].into(),
            messages_max: max,
            invisible_ms: hide_ms,
            filter: TagFilter::All,
            run,
        };
        let first = self.model.snapshots.len();
        let delivered = self.engine().receive(now_ms, &request).unwrap();
        self.model.advance(now_ms);
        self.follow();
        if !delivered.is_empty() {
            self.torn.extend(first..self.model.snapshots.len());
        }
        let shown_ms = self.model.shown_ms(Line::Retries(sub));
        let mut retries = self.model.retries(sub, shown_ms);
        retries.truncate(max);
        let fresh = self.model.fresh(sub, run, |queue| {
            self.model.shown_ms(Line::Queue(sub.1, queue))
        });
        self.model.read(sub, max, run);
        let available: usize = fresh.values().map(Vec::len).sum();
        let expected = std::cmp::min(max, retries.len() + available);
        let seen: Vec<_> = delivered
            .iter()
            .map(|one| (number_of(&one.message.body), one.attempt))
            .collect();
        assert_eq!(
            seen.len(),
            expected,
            "{seen:?} of {retries:?} and {fresh:?}, shown {}",
            shown_ms - START_MS
        );
        assert_eq!(
            seen[..retries.len()],
            retries,
            "retries come first and in order"
        );
        let mut by_queue = BTreeMap::<u16, Vec<(u64, u16)>>::new();
        for (one, seen) in delivered.iter().zip(&seen).skip(retries.len()) {
            by_queue.entry(one.queue).or_default().push(*seen);
        }
        for (queue, seen) in by_queue {
            let due = fresh.get(&queue).cloned().unwrap_or_default();
            assert_eq!(seen, due[..seen.len()], "queue {queue} in order of {due:?}");
        }
        self.note(sub, &delivered, now_ms + hide_ms);
        delivered.len()
    }

    fn note(&mut self, sub: Sub, delivered: &[Delivered], until_ms: u64) {
        for one in delivered {
            let number = number_of(&one.message.body);
            let message = &self.model.state.messages[&number];
            assert!(message.place.due_ms <= self.now_ms, "{number} is early");
            assert_eq!(
                (one.message.place, one.queue),
                (message.place, message.queue)
            );
            assert_eq!(one.message.message_id, self.made_ids[&number]);
            let attempt = one.attempt;
            let before = self.model.standing(sub, number);
            let retry_ms = one.handle.retry.map(|retry| retry.due_ms);
            let standing = if let Standing::Retry {
                visible_ms, number, ..
            } = before
            {
                assert_eq!(retry_ms, Some(visible_ms));
                Standing::RetryLeased {
                    attempt,
                    until_ms,
                    visible_ms,
                    number,
                }
            } else {
                assert_eq!(retry_ms, None);
                let Standing::Open { released, .. } = before else {
                    panic!("{number} came and was {before:?}");
                };
                assert_eq!(one.handle.returned, RELEASED * released);
                Standing::Leased {
                    attempt,
                    until_ms,
                    released,
                }
            };
            self.model.set(sub, number, standing);
            self.held.push(Held {
                sub,
                number,
                handle: one.handle,
                resets: self.resets(sub),
            });
        }
    }

    fn resets(&self, sub: Sub) -> u64 {
        self.model.state.resets.get(&sub).copied().unwrap_or(0)
    }

    fn reset(&mut self, sub: Sub, back_ms: u64) {
        let (now_ms, to_ms) = (self.now_ms, self.now_ms - back_ms);
        self.engine()
            .reset_group(now_ms, TOPICS[sub.1], GROUPS[sub.0], to_ms)
            .unwrap();
        self.follow();
        self.model.reset(sub, to_ms);
    }

    fn pick(&self, pick: usize) -> Option<Held> {
        let index = pick.checked_rem(self.held.len())?;
        Some(self.held[index])
    }

    fn ack(&mut self, pick: usize) {
        let Some(Held {
            sub,
            number,
            handle,
            resets,
        }) = self.pick(pick)
        else {
            return;
        };
        let now_ms = self.now_ms;
        let result = self.engine().ack(now_ms, &handle);
        let is_void = resets != self.resets(sub);
        match self
            .model
            .takes_ack(sub, number, &handle)
            .filter(|_| !is_void)
        {
            None if is_void => assert!(matches!(result, Err(Error::Expired)), "{result:?}"),
            Some(true) => {
                result.unwrap();
                self.model.set(sub, number, Standing::Done);
            }
            Some(false) => assert!(matches!(result, Err(Error::Expired)), "{result:?}"),
            None => {
                assert!(matches!(result, Ok(()) | Err(Error::Expired)), "{result:?}");
                if result.is_ok() {
                    self.model.set(sub, number, Standing::Done);
                }
            }
        }
    }

    /// Compares a command that needs a lease with the model; returns whether it was one.
    fn leased(&self, held: Held, result: &Result<(), Error>) -> bool {
        let leased = held.resets == self.resets(held.sub)
            && self.model.is_leased(held.sub, held.number, &held.handle);
        match result {
            Ok(()) => assert!(leased, "{held:?} was not leased"),
            Err(Error::Expired) => assert!(!leased, "{held:?} was leased"),
            Err(error) => panic!("{error}"),
        }
        leased
    }

    fn nack(&mut self, pick: usize, delay_ms: Option<u64>) {
        let Some(held) = self.pick(pick) else {
            return;
        };
        let now_ms = self.now_ms;
        let result = self.engine().retry_later(now_ms, &held.handle, delay_ms);
        if self.leased(held, &result) {
            let step = usize::from(held.handle.attempt > 1);
            let delay_ms = delay_ms.unwrap_or(BACKOFF_MS[step]);
            self.model.fail(now_ms, held.sub, held.number, delay_ms);
        }
    }

    fn hide(&mut self, pick: usize, hide_ms: u64) {
        let Some(held) = self.pick(pick) else {
            return;
        };
        let now_ms = self.now_ms;
        let result = self
            .engine()
            .change_invisible(now_ms, &held.handle, hide_ms);
        if self.leased(held, &result) {
            let mut standing = self.model.standing(held.sub, held.number);
            if let Standing::Leased { until_ms, .. } | Standing::RetryLeased { until_ms, .. } =
                &mut standing
            {
                *until_ms = now_ms + hide_ms;
            }
            self.model.set(held.sub, held.number, standing);
        }
    }

    fn dead_letter(&mut self, pick: usize) {
        let Some(held) = self.pick(pick) else {
            return;
        };
        let now_ms = self.now_ms;
        let result = self.engine().dead_letter(now_ms, &held.handle);
        if self.leased(held, &result) {
            self.model.dead_letter(now_ms, held.sub, held.number);
        }
    }

    fn recall(&mut self, pick: usize) {
        let Some(index) = pick.checked_rem(self.handles.len()) else {
            return;
        };
        let (number, handle) = self.handles[index];
        let now_ms = self.now_ms;
        let verdict = self.engine().recall(now_ms, &handle).unwrap();
        self.model.advance(now_ms);
        self.follow();
        assert_eq!(
            verdict,
            self.model.verdict(now_ms, number),
            "recall of {number}"
        );
        if verdict == Recall::Cancelled && !self.model.state.messages[&number].cancelled {
            self.model.take_out(number);
        }
    }

    fn reschedule(&mut self, pick: usize, delay_ms: u64) {
        let Some(index) = pick.checked_rem(self.handles.len()) else {
            return;
        };
        let (number, handle) = self.handles[index];
        let now_ms = self.now_ms;
        let answer = self
            .engine()
            .reschedule(now_ms, &handle, Delivery::After { delay_ms })
            .unwrap();
        self.model.advance(now_ms);
        self.follow();
        let verdict = self.model.verdict(now_ms, number);
        let cancelled = self.model.state.messages[&number].cancelled;
        match answer {
            Reschedule::Moved(sent) => {
                assert_eq!(
                    (verdict, cancelled),
                    (Recall::Cancelled, false),
                    "move of {number}"
                );
                let line = Line::Queue(self.model.state.messages[&number].topic, handle.queue);
                let expected_ms = self.model.place_ms(line, now_ms, now_ms + delay_ms);
                assert_eq!(sent.due_ms(), expected_ms);
                self.model.take_out(number);
                self.model.put_back(number, sent.handle.place);
                self.handles.push((number, sent.handle));
            }
            Reschedule::TooLate => assert_eq!(verdict, Recall::TooLate, "move of {number}"),
            Reschedule::Unknown => assert!(cancelled, "move of {number}"),
        }
    }

    /// Waits as the broker does until something is delivered or nothing can come; nothing may come late.
    fn poll(&mut self, sub: Sub) {
        self.settle();
        for _ in 0..60 {
            if self.receive(sub, 3, 60_000, false) > 0 {
                return;
            }
            self.engine().watch(TOPICS[sub.1], GROUPS[sub.0]);
            self.settle();
            let now_ms = self.now_ms;
            let woken = self.engine().take_woken(now_ms);
            self.model.advance(now_ms);
            if woken.is_some() {
                continue;
            }
            let next_ms = self.engine().next_event_ms();
            let until_ms = next_ms.unwrap_or(u64::MAX / 2);
            let missed = until_ms.saturating_sub(1);
            if missed >= now_ms {
                let fresh = self.model.fresh(sub, false, |_| missed);
                let retries = self.model.retries(sub, missed);
                assert!(
                    fresh.is_empty() && retries.is_empty(),
                    "{fresh:?} {retries:?} come unnoticed"
                );
            }
            let Some(next_ms) = next_ms else {
                assert_eq!(self.model.lease_ends(sub), [], "leases end unnoticed");
                break;
            };
            if next_ms > START_MS + 366 * 86_400_000 {
                break;
            }
            self.now_ms = std::cmp::max(now_ms, next_ms);
            self.settle();
        }
        self.engine().unwatch(TOPICS[sub.1], GROUPS[sub.0]);
    }

    fn crash(&mut self, pick: usize) {
        let (from, to) = (self.model.durable, self.model.snapshots.len() - 1);
        let epoch = from + pick % (to - from + 1);
        let Some(epoch) = (epoch..=to).find(|epoch| !self.torn.contains(epoch)) else {
            return;
        };
        self.torn.clear();
        let history = self.engine.take().unwrap().into_store();
        let start = history.before.len() - to;
        let store = history
            .before
            .get(start + epoch)
            .cloned()
            .unwrap_or(history.now);
        let store = History {
            now: store,
            before: Vec::new(),
        };
        self.engine = Some(Engine::open(store, self.config.clone()).unwrap());
        self.model = self.model.crashed(epoch);
        // No client knows a handle that was never answered.
        let messages = &self.model.state.messages;
        let next = |place: Place| messages.values().any(|message| message.place == place);
        self.handles.retain(|(number, handle)| {
            messages.get(number).is_some_and(|message| {
                let first =
                    self.made_ids[number].ends_with(&format!("{:016X}", handle.place.sequence));
                first || next(handle.place) || message.place.sequence > handle.place.sequence
            })
        });
        self.held.retain(|held| messages.contains_key(&held.number));
        self.next_number += 1_000;
    }

    fn look(&mut self, topic: usize, key: u8, max: usize) {
        let now_ms = self.now_ms;
        let found = self.engine().peek(now_ms, TOPICS[topic], max).unwrap();
        self.follow();
        let mut expected = self.model.waiting(topic, now_ms);
        expected.truncate(max);
        let numbers: Vec<_> = found
            .iter()
            .map(|one| number_of(&one.message.body))
            .collect();
        assert_eq!(numbers, expected, "the next {max}");

        let found = self
            .engine()
            .find(now_ms, TOPICS[topic], &format!("k{key}"))
            .unwrap();
        self.follow();
        let mut numbers: Vec<_> = found
            .iter()
            .map(|one| number_of(&one.message.body))
            .collect();
        numbers.sort_unstable();
        let has_key = |number: &u64, sent: &Sent| {
            sent.topic == topic && !sent.cancelled && self.keys[number] == key
        };
        let messages = self.model.state.messages.iter();
        let expected: Vec<_> = messages
            .filter(|(number, sent)| has_key(number, sent))
            .map(|(number, _)| *number)
            .collect();
        assert_eq!(numbers, expected, "messages with key {key}");

        let first = self
            .model
            .state
            .messages
            .iter()
            .next()
            .map(|(number, sent)| (*number, sent.clone()));
        if let Some((number, sent)) = first {
            let id = self.made_ids[&number].clone();
            let found = self.engine().find(now_ms, TOPICS[sent.topic], &id).unwrap();
            self.follow();
            let numbers: Vec<_> = found
                .iter()
                .map(|one| number_of(&one.message.body))
                .collect();
            assert_eq!(
                numbers,
                if sent.cancelled { vec![] } else { vec![number] },
                "id {id}"
            );
        }
    }

    fn compare_counts(&mut self) {
        let now_ms = self.now_ms;
        for (topic, name) in TOPICS.iter().enumerate() {
            let stats = self.engine().topic_stats(now_ms, name).unwrap();
            let model = &self.model.state;
            let count = |counts: &BTreeMap<usize, u64>| counts.get(&topic).copied().unwrap_or(0);
            assert_eq!(stats.messages, self.model.stored_count(topic) as u64);
            assert_eq!(
                (stats.appended, stats.removed),
                (count(&model.appended), count(&model.removed))
            );
            let waiting = self.model.waiting(topic, now_ms).len() as u64;
            assert_eq!((stats.waiting, stats.waiting_exact), (waiting, true));
            assert_eq!(
                stats.bytes == 0,
                stats.messages == 0,
                "{} bytes",
                stats.bytes
            );
        }
        for sub in SUBS {
            let (group, topic) = (GROUPS[sub.0], TOPICS[sub.1]);
            let stats = self.engine().group_stats(now_ms, topic, group).unwrap();
            let leased =
                |one| matches!(one, Standing::Leased { .. } | Standing::RetryLeased { .. });
            let retrying =
                |one| matches!(one, Standing::Retry { .. } | Standing::RetryLeased { .. });
            assert_eq!(stats.in_flight, self.model.count(sub, leased));
            // A FIFO group keeps in their places those that failed.
            let in_place = |one| match one {
                Standing::Open { failures, .. } => failures > 0,
                Standing::Leased { attempt, .. } => attempt > 1,
                _ => false,
            };
            let in_place = self.model.count(sub, |one| is_fifo(sub.0) && in_place(one));
            assert_eq!(
                stats.retrying,
                self.model.count(sub, retrying) + in_place,
                "{group} on {topic}"
            );
            let ready = self.model.ready(sub, now_ms);
            assert_eq!(
                (stats.ready, stats.ready_exact),
                (ready, true),
                "{group} on {topic}"
            );
            let letters = self.model.state.dead_letters.get(&sub.0);
            assert_eq!(stats.dead_letters, letters.copied().unwrap_or(0));
        }
    }
}

/// With everything applied and durable, all that is due comes, each message once.
fn drain(run: &mut Run) {
    for sub in SUBS {
        let mut empty = 0;
        // A poll that finds nothing may have asked for a new floor; the next one has it.
        while empty < 2 {
            run.settle();
            let before = run.held.len();
            empty = if run.receive(sub, 5, 60_000, true) == 0 {
                empty + 1
            } else {
                0
            };
            for pick in before..run.held.len() {
                run.ack(pick);
            }
        }
        let left = run.model.fresh(sub, false, |_| run.now_ms);
        assert!(left.is_empty(), "{left:?} did not come");
    }
    run.compare_counts();
}

fn go(head_messages_max: usize, held_bytes_max: usize, steps: &[Step]) {
    let mut run = Run::new(config(head_messages_max, held_bytes_max));
    for step in steps {
        run.run(step);
    }
    drain(&mut run);
}

proptest! {
    #[test]
    fn a_broker_is_what_the_model_says(steps in steps()) {
        go(1_024, 64 << 20, &steps);
    }

    #[test]
    fn a_broker_with_small_heads_is_what_the_model_says(steps in steps(), head in 1..5_usize) {
        go(head, 64 << 20, &steps);
    }

    #[test]
    fn a_broker_with_little_memory_is_what_the_model_says(steps in steps(), bytes in 1..4_000_usize) {
        go(1_024, bytes, &steps);
    }
}
