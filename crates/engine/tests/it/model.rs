//! Provides the plain model of a broker that random runs are compared with: lists, and the obvious thing for each
//! command. It keeps the whole state in a value that can be cloned, so a crash is an old value.

use std::collections::BTreeMap;

use engine::limits::FLOOR_AHEAD_MS;
use engine::{Place, Recall, ReceiptHandle};

/// A consumer group on a topic.
pub(crate) type Sub = (usize, usize);

pub(crate) const ATTEMPTS_MAX: u16 = 3;
/// What a handle counts for each time a message was taken away because an earlier one of its message group failed.
pub(crate) const RELEASED: u16 = 256;
pub(crate) const BACKOFF_MS: [u64; 2] = [100, 1_000];

/// Whether a group is FIFO, by its number.
pub(crate) fn is_fifo(group: usize) -> bool {
    group == 1
}

/// The state of a message in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// May be delivered from an instant on, after so many failures that kept it in its place; `released` says how often
    /// it was taken away from its consumer since, because an earlier one of its message group failed.
    Open {
        failures: u16,
        from_ms: u64,
        released: u16,
    },
    /// With a consumer, as this attempt.
    Leased {
        attempt: u16,
        until_ms: u64,
        released: u16,
    },
    /// Comes again as this attempt; `number` says which of two at the same instant came first.
    Retry {
        attempt: u16,
        visible_ms: u64,
        number: u64,
    },
    /// Came again and is with a consumer.
    RetryLeased {
        attempt: u16,
        until_ms: u64,
        visible_ms: u64,
        number: u64,
    },
    /// Acknowledged, or moved to the dead letters.
    Done,
}

#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) topic: usize,
    pub(crate) queue: u16,
    pub(crate) place: Place,
    pub(crate) group: Option<u8>,
    pub(crate) cancelled: bool,
    pub(crate) standing: BTreeMap<usize, Standing>,
}

impl Sent {
    fn standing(&self, group: usize) -> Standing {
        self.standing
            .get(&group)
            .copied()
            .unwrap_or(Standing::Open {
                failures: 0,
                from_ms: 0,
                released: 0,
            })
    }
}

/// What is read up to a frontier of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Line {
    /// A queue of a topic.
    Queue(usize, u16),
    Retries(Sub),
    /// The dead letters of a group.
    DeadLetters(usize),
}

/// Changes given to the store and not known to be durable: the earliest due time they touch in each line.
#[derive(Clone, Debug)]
struct Unsynced {
    epoch: u64,
    earliest_ms: BTreeMap<Line, u64>,
    floor_ms: u64,
}

/// What survives a crash if it was applied in time.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// By the number that is its body.
    pub(crate) messages: BTreeMap<u64, Sent>,
    pub(crate) dead_letters: BTreeMap<usize, u64>,
    pub(crate) appended: BTreeMap<usize, u64>,
    pub(crate) removed: BTreeMap<usize, u64>,
    pub(crate) numbers: u64,
    /// How often each group was reset on a topic: earlier handles are void.
    pub(crate) resets: BTreeMap<Sub, u64>,
    floor_ms: u64,
}

/// The model: the state, and what a crash forgets.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) state: State,
    now_ms: u64,
    /// How far all lines may be read.
    shown_ms: u64,
    /// How far a line was read.
    read_ms: BTreeMap<Line, u64>,
    start_ms: u64,
    floor_ms: u64,
    staged_ms: BTreeMap<Line, u64>,
    unsynced: Vec<Unsynced>,
    /// The queue a subscription reads first the next time.
    next_queue: BTreeMap<Sub, u16>,
    /// The state at each apply since the start, by epoch.
    pub(crate) snapshots: Vec<State>,
    pub(crate) durable: usize,
}

impl Model {
    pub(crate) fn new(state: State) -> Self {
        let floor_ms = state.floor_ms;
        Self {
            snapshots: vec![state.clone()],
            state,
            now_ms: 0,
            shown_ms: 0,
            read_ms: BTreeMap::new(),
            start_ms: floor_ms,
            floor_ms,
            staged_ms: BTreeMap::new(),
            unsynced: Vec::new(),
            next_queue: BTreeMap::new(),
            durable: 0,
        }
    }

    /// What is left after a crash that kept everything up to `epoch`: leases that had begun by then hold on.
    pub(crate) fn crashed(&self, epoch: usize) -> Self {
        Self::new(self.snapshots[epoch].clone())
    }

    /// The least of what the lines that `counts` allows hold back, less one.
    fn below_ms(&self, counts: impl Fn(Line) -> bool) -> u64 {
        let undurable = self.unsynced.iter().map(|one| &one.earliest_ms);
        let lines = undurable.chain([&self.staged_ms]).flatten();
        lines
            .filter(|(line, _)| counts(**line))
            .map(|(_, at_ms)| at_ms - 1)
            .min()
            .unwrap_or(u64::MAX)
    }

    /// No reader may read past the clock and the durable floor.
    pub(crate) fn reach_ms(&self) -> u64 {
        std::cmp::min(self.now_ms, self.floor_ms)
    }

    /// Readers may read as far as the clock, the durable floor and the undurable changes of their line allow.
    pub(crate) fn advance(&mut self, now_ms: u64) {
        self.now_ms = std::cmp::max(self.now_ms, now_ms);
        let shown_ms = std::cmp::min(self.reach_ms(), self.below_ms(|_| true));
        self.shown_ms = std::cmp::max(self.shown_ms, shown_ms);
    }

    /// How far a line may be read.
    pub(crate) fn shown_ms(&self, line: Line) -> u64 {
        std::cmp::min(self.reach_ms(), self.below_ms(|other| other == line))
    }

    /// A line is read.
    fn show(&mut self, line: Line) {
        let shown_ms = self.shown_ms(line);
        let read_ms = self.read_ms.insert(line, shown_ms).unwrap_or_default();
        assert!(read_ms <= shown_ms, "{line:?} goes back");
    }

    /// A receive of at most `max` reads retries first, then one queue after the other until it has enough.
    pub(crate) fn read(&mut self, sub: Sub, max: usize, run: bool) {
        self.show(Line::Retries(sub));
        let first = self.next_queue.entry(sub).or_default();
        let queues = [*first, 1 - *first];
        *first = 1 - *first;
        let mut taken = self.retries(sub, self.shown_ms(Line::Retries(sub))).len();
        let fresh = self.fresh(sub, run, |queue| self.shown_ms(Line::Queue(sub.1, queue)));
        for queue in queues {
            if taken >= max {
                return;
            }
            self.show(Line::Queue(sub.1, queue));
            taken += fresh.get(&queue).map_or(0, Vec::len);
        }
    }

    fn closed_ms(&self, line: Line) -> u64 {
        let read_ms = self.read_ms.get(&line).copied().unwrap_or_default();
        [self.shown_ms, self.start_ms, read_ms]
            .into_iter()
            .max()
            .unwrap()
    }

    /// When something asked for at `due_ms` is really due in a line.
    pub(crate) fn place_ms(&self, line: Line, now_ms: u64, due_ms: u64) -> u64 {
        [due_ms, now_ms, self.closed_ms(line) + 1]
            .into_iter()
            .max()
            .unwrap()
    }

    pub(crate) fn touch(&mut self, line: Line, due_ms: u64) {
        let staged_ms = self.staged_ms.entry(line).or_insert(due_ms);
        *staged_ms = std::cmp::min(*staged_ms, due_ms);
    }

    /// The engine has given its changes to the store.
    pub(crate) fn applied(&mut self, now_ms: u64) {
        let promised_ms = self
            .unsynced
            .last()
            .map_or(self.floor_ms, |last| last.floor_ms);
        let ahead_ms = now_ms + FLOOR_AHEAD_MS;
        self.state.floor_ms = std::cmp::max(ahead_ms, promised_ms);
        self.unsynced.push(Unsynced {
            epoch: self.snapshots.len() as u64,
            earliest_ms: std::mem::take(&mut self.staged_ms),
            floor_ms: self.state.floor_ms,
        });
        self.snapshots.push(self.state.clone());
    }

    pub(crate) fn synced(&mut self, epoch: usize) {
        for one in &self.unsynced {
            if one.epoch <= epoch as u64 {
                self.floor_ms = std::cmp::max(self.floor_ms, one.floor_ms);
            }
        }
        self.unsynced.retain(|one| one.epoch > epoch as u64);
        self.durable = std::cmp::max(self.durable, epoch);
    }

    pub(crate) fn append(&mut self, number: u64, sent: Sent) {
        self.touch(Line::Queue(sent.topic, sent.queue), sent.place.due_ms);
        *self.state.appended.entry(sent.topic).or_default() += 1;
        self.state.messages.insert(number, sent);
    }

    /// What a recall or a reschedule has to find.
    pub(crate) fn verdict(&self, now_ms: u64, number: u64) -> Recall {
        let message = &self.state.messages[&number];
        let past = message.place.due_ms
            <= [
                now_ms,
                self.closed_ms(Line::Queue(message.topic, message.queue)),
            ]
            .into_iter()
            .max()
            .unwrap();
        match (message.cancelled, past) {
            (_, false) => Recall::Cancelled,
            (false, true) => Recall::TooLate,
            (true, true) => Recall::Unknown,
        }
    }

    /// Takes a message that waits out of its queue.
    pub(crate) fn take_out(&mut self, number: u64) {
        let message = self.state.messages.get_mut(&number).unwrap();
        message.cancelled = true;
        let (topic, queue, due_ms) = (message.topic, message.queue, message.place.due_ms);
        *self.state.removed.entry(topic).or_default() += 1;
        self.touch(Line::Queue(topic, queue), due_ms);
    }

    pub(crate) fn put_back(&mut self, number: u64, place: Place) {
        let message = self.state.messages.get_mut(&number).unwrap();
        message.cancelled = false;
        message.place = place;
        let (topic, queue) = (message.topic, message.queue);
        *self.state.appended.entry(topic).or_default() += 1;
        self.touch(Line::Queue(topic, queue), place.due_ms);
    }

    /// Messages of a topic that were not cancelled, in order of their queues.
    fn stored(&self, topic: usize) -> Vec<(u64, &Sent)> {
        let mut stored: Vec<_> = self
            .state
            .messages
            .iter()
            .filter(|(_, message)| message.topic == topic && !message.cancelled)
            .map(|(number, message)| (*number, message))
            .collect();
        stored.sort_by_key(|(_, message)| message.place);
        stored
    }

    pub(crate) fn stored_count(&self, topic: usize) -> usize {
        self.stored(topic).len()
    }

    /// Messages due after `now_ms`, in order.
    pub(crate) fn waiting(&self, topic: usize, now_ms: u64) -> Vec<u64> {
        let stored = self.stored(topic);
        stored
            .into_iter()
            .filter(|(_, message)| message.place.due_ms > now_ms)
            .map(|(number, _)| number)
            .collect()
    }

    /// Retries that readers at `shown_ms` may have, in order.
    pub(crate) fn retries(&self, (group, topic): Sub, shown_ms: u64) -> Vec<(u64, u16)> {
        let mut retries = Vec::new();
        for (number, message) in self.stored(topic) {
            if let Standing::Retry {
                attempt,
                visible_ms,
                number: order,
            } = message.standing(group)
                && visible_ms <= shown_ms
            {
                retries.push((visible_ms, order, number, attempt));
            }
        }
        retries.sort_unstable();
        retries
            .into_iter()
            .map(|(_, _, number, attempt)| (number, attempt))
            .collect()
    }

    /// First deliveries, and those of FIFO groups, that readers may have who are shown each queue so far: by queue,
    /// in order. A run has further messages of a message group after the first.
    pub(crate) fn fresh(
        &self,
        (group, topic): Sub,
        run: bool,
        shown_ms: impl Fn(u16) -> u64,
    ) -> BTreeMap<u16, Vec<(u64, u16)>> {
        let mut queues = BTreeMap::<u16, Vec<(u64, u16)>>::new();
        let mut lines = BTreeMap::new();
        for (number, message) in self.stored(topic) {
            let standing = message.standing(group);
            let open_ms = std::cmp::max(shown_ms(message.queue), self.reach_ms());
            if message.place.due_ms > shown_ms(message.queue) || standing == Standing::Done {
                continue;
            }
            let line = message.group.filter(|_| is_fifo(group));
            let before = line.and_then(|line| lines.get(&line).copied());
            let is_free = before.is_none_or(|comes: bool| run && comes);
            let due = match standing {
                Standing::Open {
                    failures, from_ms, ..
                } if from_ms <= open_ms => Some(failures),
                _ => None,
            };
            lines.extend(line.map(|line| (line, is_free && due.is_some())));
            if let Some(failures) = due.filter(|_| is_free) {
                queues
                    .entry(message.queue)
                    .or_default()
                    .push((number, failures + 1));
            }
        }
        queues
    }

    pub(crate) fn standing(&self, (group, _): Sub, number: u64) -> Standing {
        self.state.messages[&number].standing(group)
    }

    pub(crate) fn set(&mut self, (group, _): Sub, number: u64, standing: Standing) {
        self.state
            .messages
            .get_mut(&number)
            .unwrap()
            .standing
            .insert(group, standing);
    }

    pub(crate) fn count(&self, (group, topic): Sub, which: impl Fn(Standing) -> bool) -> u64 {
        self.stored(topic)
            .iter()
            .filter(|(_, message)| which(message.standing(group)))
            .count() as u64
    }

    /// How many messages are due and were not delivered to a group.
    pub(crate) fn ready(&self, (group, topic): Sub, now_ms: u64) -> u64 {
        self.stored(topic)
            .iter()
            .filter(|(_, message)| {
                let is_open = matches!(message.standing(group), Standing::Open { failures: 0, .. });
                is_open && message.place.due_ms <= now_ms
            })
            .count() as u64
    }

    /// The instants at which leases of a group end.
    pub(crate) fn lease_ends(&self, (group, topic): Sub) -> Vec<(u64, u64)> {
        let mut ends = Vec::new();
        for (number, message) in self.stored(topic) {
            match message.standing(group) {
                Standing::Leased { until_ms, .. } | Standing::RetryLeased { until_ms, .. } => {
                    ends.push((until_ms, number));
                }
                _ => {}
            }
        }
        ends
    }

    /// A delivery failed: it comes again after `delay_ms`, or is a dead letter.
    pub(crate) fn fail(&mut self, now_ms: u64, sub: Sub, number: u64, delay_ms: u64) {
        let (attempt, retry) = match self.standing(sub, number) {
            Standing::Leased { attempt, .. } => (attempt, false),
            Standing::RetryLeased { attempt, .. } => (attempt, true),
            other => panic!("{other:?} cannot fail"),
        };
        if attempt >= ATTEMPTS_MAX {
            self.dead_letter(now_ms, sub, number);
        } else if is_fifo(sub.0) {
            assert!(!retry);
            self.set(
                sub,
                number,
                Standing::Open {
                    failures: attempt,
                    from_ms: now_ms + delay_ms,
                    released: 0,
                },
            );
            self.release(sub, number, false);
        } else {
            let line = Line::Retries(sub);
            let visible_ms = self.place_ms(line, now_ms, now_ms + delay_ms);
            self.touch(line, visible_ms);
            self.state.numbers += 1;
            let standing = Standing::Retry {
                attempt: attempt + 1,
                visible_ms,
                number: self.state.numbers,
            };
            self.set(sub, number, standing);
        }
    }

    /// Moves a group on a topic to an instant: retries are forgotten, what is due from then on comes again.
    pub(crate) fn reset(&mut self, sub: Sub, to_ms: u64) {
        *self.state.resets.entry(sub).or_default() += 1;
        self.next_queue.remove(&sub);
        let numbers: Vec<_> = self.state.messages.keys().copied().collect();
        for number in numbers {
            let message = &self.state.messages[&number];
            if message.topic != sub.1 {
                continue;
            }
            let standing = if message.place.due_ms < to_ms {
                Standing::Done
            } else {
                Standing::Open {
                    failures: 0,
                    from_ms: 0,
                    released: 0,
                }
            };
            self.set(sub, number, standing);
        }
    }

    /// The messages of a message group that are not done, in order.
    fn line_of(&self, sub: Sub, number: u64) -> Vec<u64> {
        let message = &self.state.messages[&number];
        let Some(line) = message.group.filter(|_| is_fifo(sub.0)) else {
            return vec![number];
        };
        let stored = self.stored(sub.1).into_iter();
        let same = stored.filter(|(_, other)| {
            (other.queue, other.group) == (message.queue, Some(line))
                && other.standing(sub.0) != Standing::Done
        });
        same.map(|(number, _)| number).collect()
    }

    /// What follows a message in its message group, or also itself, is taken away from its consumer.
    fn release(&mut self, sub: Sub, number: u64, itself: bool) {
        let line = self.line_of(sub, number);
        for other in line.into_iter().skip_while(|other| *other != number) {
            let standing = self.standing(sub, other);
            if let Standing::Leased {
                attempt, released, ..
            } = standing
                && (itself || other != number)
            {
                let standing = Standing::Open {
                    failures: attempt - 1,
                    from_ms: 0,
                    released: released + 1,
                };
                self.set(sub, other, standing);
            }
        }
    }

    /// A lease has run out; only the first of a message group has failed by that.
    fn lapse(&mut self, now_ms: u64, sub: Sub, number: u64) {
        let leased = matches!(
            self.standing(sub, number),
            Standing::Leased { .. } | Standing::RetryLeased { .. }
        );
        let follows = self.line_of(sub, number).first() != Some(&number);
        if is_fifo(sub.0) {
            self.release(sub, number, follows);
        }
        if leased && !follows {
            self.fail(now_ms, sub, number, 0);
        }
    }

    pub(crate) fn dead_letter(&mut self, now_ms: u64, sub: Sub, number: u64) {
        let line = Line::DeadLetters(sub.0);
        let due_ms = self.place_ms(line, now_ms, now_ms);
        self.touch(line, due_ms);
        *self.state.dead_letters.entry(sub.0).or_default() += 1;
        self.set(sub, number, Standing::Done);
    }

    /// Ends the leases that have run out, in the order in which the engine looks at them.
    pub(crate) fn end_leases(&mut self, now_ms: u64, sub: Sub) {
        let mut ended = Vec::new();
        for (until_ms, number) in self.lease_ends(sub) {
            if until_ms > now_ms {
                continue;
            }
            let message = &self.state.messages[&number];
            let order = match self.standing(sub, number) {
                Standing::RetryLeased {
                    visible_ms, number, ..
                } => (1, 0, visible_ms, number),
                _ => (
                    0,
                    message.queue,
                    message.place.due_ms,
                    message.place.sequence,
                ),
            };
            ended.push((order, number));
        }
        ended.sort_unstable();
        for (_, number) in ended {
            self.lapse(now_ms, sub, number);
        }
    }

    /// Whether an acknowledgement of a delivery is taken; `None`: it is done already, or was perhaps never read as far as
    /// the broker knows, and either answer is right.
    pub(crate) fn takes_ack(&self, sub: Sub, number: u64, handle: &ReceiptHandle) -> Option<bool> {
        let (attempt, retry) = (handle.attempt, handle.retry.is_some());
        match self.standing(sub, number) {
            Standing::Open {
                failures: 0,
                released: 0,
                ..
            } if !retry && handle.returned > 0 => None,
            Standing::Open {
                failures, released, ..
            } => Some(!retry && failures <= attempt && handle.returned == RELEASED * released),
            Standing::Leased {
                attempt: leased,
                released,
                ..
            } => Some(!retry && (leased, RELEASED * released) == (attempt, handle.returned)),
            Standing::Retry { attempt: next, .. } | Standing::RetryLeased { attempt: next, .. } => {
                Some(retry && next == attempt)
            }
            Standing::Done => None,
        }
    }

    pub(crate) fn is_leased(&self, sub: Sub, number: u64, handle: &ReceiptHandle) -> bool {
        let (attempt, retry) = (handle.attempt, handle.retry.is_some());
        match self.standing(sub, number) {
            Standing::Leased {
                attempt: leased,
                released,
                ..
            } => !retry && (leased, RELEASED * released) == (attempt, handle.returned),
            Standing::RetryLeased {
                attempt: leased, ..
            } => retry && leased == attempt,
            _ => false,
        }
    }
}
