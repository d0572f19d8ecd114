//! Provides the step function of the broker: commands in turn, one group of changes at a time, polls,
//! answers. It runs on no thread of its own, so the simulator drives the same code as the writer.

use std::collections::{BTreeMap, HashMap, VecDeque};

use engine::{Engine, ReceiptHandle, Store, StoreError};

use crate::alarms;
use crate::command::{Answer, Command, Poll};
use crate::error::Error;
use crate::lanes::Lanes;
use crate::limits::{
    BEYOND_STEP_UNITS, GROUP_BYTES_MAX, IMPATIENT_WAIT_MS_MAX, NOTES_EVERY_MS, STEP_PART,
    STEP_UNITS, STEP_WEIGHT_MAX,
};

/// How often the disk's free space is looked at, in ms.
const FREE_SPACE_EVERY_MS: u64 = 100;

/// A topic and a consumer group, by name.
type TopicAndGroup = (String, String);

/// The broker without threads: its driver passes the time, hands in commands and reports syncs.
#[derive(Debug)]
pub struct Core<S> {
    engine: Engine<S>,
    /// Units of work that a step may spend.
    step_units: u64,
    lanes: Lanes<S>,
    /// Polls that found nothing, with the instant they end at, by the number under which they came.
    parked: HashMap<TopicAndGroup, BTreeMap<u64, (u64, Poll)>>,
    parked_count: usize,
    /// The number of the next poll that is parked.
    next_parked: u64,
    /// When parked polls end: instant, number -> whose poll it is.
    ends: BTreeMap<(u64, u64), TopicAndGroup>,
    /// Answers by the epoch that has to be durable first.
    answers: VecDeque<(u64, Vec<Answer>)>,
    next_free_space_ms: u64,
    /// From when on leases that the store does not know yet may be written although nothing else is.
    notes_ms: u64,
}

impl<S: Store> Core<S> {
    /// A broker around an opened engine.
    pub fn new(engine: Engine<S>) -> Self {
        Self {
            engine,
            step_units: STEP_UNITS,
            lanes: Lanes::default(),
            parked: HashMap::new(),
            parked_count: 0,
            next_parked: 0,
            ends: BTreeMap::new(),
            answers: VecDeque::new(),
            next_free_space_ms: 0,
            notes_ms: 0,
        }
    }

    /// Lets a step spend so many units of work instead of the usual number, for tests of what is left for later steps.
    pub fn limit_steps(&mut self, units: u64) {
        self.step_units = units;
    }

    /// Takes a command; [`Core::step`] executes it in turn.
    pub fn push(&mut self, command: Command<S>) {
        self.lanes.push(command);
    }

    /// Reports that everything applied up to `epoch` is durable, and answers who waited for that.
    pub fn durable(&mut self, epoch: u64) {
        self.take_answers(epoch).into_iter().for_each(Answer::send);
    }

    /// Reports that everything applied up to `epoch` is durable; returns the answers that waited for that.
    pub(crate) fn take_answers(&mut self, epoch: u64) -> Vec<Answer> {
        self.engine.durable(epoch);
        let mut ripe = Vec::new();
        while let Some((_, answers)) = self.answers.pop_front_if(|(needed, _)| *needed <= epoch) {
            if ripe.is_empty() {
                ripe = answers;
            } else {
                ripe.extend(answers);
            }
        }
        ripe
    }

    /// Does what is due and executes commands, at most as many as one group of changes takes.
    ///
    /// Returns how many commands were executed. After an error the broker must no longer be used.
    pub fn step(&mut self, now_ms: u64) -> Result<usize, StoreError> {
        self.step_until(now_ms, &mut || false)
    }

    /// As [`Core::step`], and leaves the rest for the next step when `is_over` says that the time for this one is over.
    /// It is asked after each command and each poll.
    pub fn step_until(
        &mut self,
        now_ms: u64,
        is_over: &mut dyn FnMut() -> bool,
    ) -> Result<usize, StoreError> {
        drop(self.lanes.taken());
        let part = self.step_units / STEP_PART;
        self.engine.begin_step(part);
        self.engine.tick(now_ms)?;
        self.engine.limit_step(self.step_units - part);
        self.engine.take_alarms().iter().for_each(alarms::log);
        if now_ms >= self.next_free_space_ms {
            self.next_free_space_ms = now_ms + FREE_SPACE_EVERY_MS;
            self.engine.refresh_free_bytes()?;
        }
        let (mut done, mut weight) = (0, 0);
        while weight < STEP_WEIGHT_MAX
            && !self.engine.is_spent()
            && self.engine.staged_bytes() < GROUP_BYTES_MAX
        {
            let Some(command) = self.lanes.pop() else {
                break;
            };
            weight += command.weight();
            self.execute(now_ms, command)?;
            done += 1;
            if is_over() {
                break;
            }
        }
        let left = self.step_units.saturating_sub(self.engine.spent());
        self.spend_at_most(std::cmp::max(left, part));
        self.serve_forgotten(now_ms, is_over)?;
        while !self.engine.is_spent()
            && let Some(pair) = self.engine.take_woken(now_ms)
        {
            self.serve(now_ms, &pair, is_over)?;
        }
        self.spend_at_most(part);
        self.end_polls(now_ms, is_over);
        self.note_leases(now_ms);
        let most = self.step_units + part + BEYOND_STEP_UNITS;
        debug_assert!(
            self.engine.spent() <= most,
            "a step spent {} units",
            self.engine.spent()
        );
        Ok(done)
    }

    /// Lets what begins now spend so many units.
    fn spend_at_most(&mut self, units: u64) {
        self.engine.limit_step(self.engine.spent() + units);
    }

    /// Lets what was handed out be written, so that a restart does not hand it out again: with other changes if there are
    /// some, else by itself, but not again and again.
    fn note_leases(&mut self, now_ms: u64) {
        if self.engine.has_notes() && !self.engine.has_staged() && now_ms >= self.notes_ms {
            self.notes_ms = now_ms.saturating_add(NOTES_EVERY_MS);
            self.engine.stage_notes();
        }
    }

    /// The lanes of the commands that the last step executed, one for each.
    pub fn executed_lanes(&mut self) -> impl Iterator<Item = u64> {
        self.lanes.taken()
    }

    /// Whether commands wait that a further step could execute.
    pub fn has_commands(&self) -> bool {
        !self.lanes.is_empty() && self.engine.staged_bytes() < GROUP_BYTES_MAX
    }

    /// Whether a further step has work before anything else happens: commands wait, or polls that may be served.
    pub fn has_work(&self) -> bool {
        self.has_commands() || self.engine.has_woken() || self.has_forgotten()
    }

    /// Gives the collected changes to the store; returns the epoch to sync, if any.
    pub fn apply(&mut self, now_ms: u64) -> Result<Option<u64>, StoreError> {
        self.engine.apply(now_ms)?;
        let applied = self.engine.applied_epoch();
        Ok((applied > self.engine.durable_epoch()).then_some(applied))
    }

    /// When a step has work again without a command, in ms.
    pub fn next_event_ms(&self) -> Option<u64> {
        let end_ms = self.ends.first_key_value().map(|((end_ms, _), _)| *end_ms);
        let by_themselves = self.engine.has_notes() && !self.engine.has_staged();
        let notes_ms = by_themselves.then_some(self.notes_ms);
        [self.engine.next_event_ms(), end_ms, notes_ms]
            .into_iter()
            .flatten()
            .min()
    }

    /// The engine inside.
    pub fn engine(&self) -> &Engine<S> {
        &self.engine
    }

    /// The engine inside, to look into it or to break its store.
    pub fn engine_mut(&mut self) -> &mut Engine<S> {
        &mut self.engine
    }

    /// Ends: every poll that still waits gets nothing, every answer that waits for the disk says that its outcome
    /// is unknown.
    pub fn stop(mut self) -> Engine<S> {
        for (_, answers) in self.answers.drain(..) {
            answers.into_iter().for_each(Answer::fail);
        }
        for (_, (_, poll)) in self.parked.drain().flat_map(|(_, polls)| polls) {
            drop(poll.reply.send(Ok(Vec::new())));
        }
        self.engine
    }

    fn execute(&mut self, now_ms: u64, command: Command<S>) -> Result<(), StoreError> {
        match command {
            Command::Send {
                topic,
                message,
                reply,
                ..
            } => {
                let result = self.engine.send(now_ms, &topic, &message);
                let result = refused(result)?;
                self.answer_later(Answer::Sent(reply, result));
            }
            Command::Receive(poll) => self.receive(now_ms, poll)?,
            Command::Ack { handles, reply } => {
                let mut results = Vec::with_capacity(handles.len());
                for handle in &handles {
                    results.push(refused(self.engine.ack(now_ms, handle))?);
                }
                self.answer_later(Answer::Acked(reply, results));
            }
            Command::Other { work, .. } => {
                let answer = work(&mut self.engine, now_ms);
                // The caller gets the failure as its answer, and it ends the broker as well.
                self.engine.check_writes()?;
                self.answer_later(answer);
            }
        }
        Ok(())
    }

    fn answer_later(&mut self, answer: Answer) {
        let epoch = self.engine.pending_epoch();
        if epoch <= self.engine.durable_epoch() || matches!(answer, Answer::Now(_)) {
            answer.send();
            return;
        }
        match self.answers.back_mut() {
            Some((last, answers)) if *last == epoch => answers.push(answer),
            _ => self.answers.push_back((epoch, vec![answer])),
        }
    }

    fn receive(&mut self, now_ms: u64, poll: Poll) -> Result<(), StoreError> {
        let pair = (poll.request.topic.clone(), poll.request.group.clone());
        // A new poll does not overtake those that wait.
        let queued = self.parked.contains_key(&pair);
        let Some(poll) = (if queued {
            Some(poll)
        } else {
            self.try_receive(now_ms, poll)?
        }) else {
            return Ok(());
        };
        // Who does not want to wait still waits for the disk, if that alone keeps back what is due, and until
        // messages that its filter does not pass are skipped.
        let unfinished = self.engine.is_unfinished(&pair.0, &pair.1);
        let waits_anyway = poll.wait_ms == 0 && (unfinished || self.engine.awaits_floor(now_ms));
        let wait_ms = if poll.request.messages_max == 0 {
            0
        } else if waits_anyway {
            IMPATIENT_WAIT_MS_MAX
        } else {
            poll.wait_ms
        };
        if wait_ms == 0 {
            drop(poll.reply.send(Ok(Vec::new())));
            return Ok(());
        }
        let limit = self.engine.config().limits.waiting_pollers_max;
        if self.parked_count >= limit {
            let error = Error::TooManyPollers {
                waiting: self.parked_count,
                limit,
            };
            drop(poll.reply.send(Err(error)));
            return Ok(());
        }
        let end_ms = now_ms.saturating_add(wait_ms);
        let number = self.next_parked;
        self.next_parked += 1;
        self.parked_count += 1;
        if !queued {
            self.engine.watch(&pair.0, &pair.1);
        }
        let polls = self.parked.entry(pair.clone()).or_default();
        polls.insert(number, (end_ms, poll));
        self.ends.insert((end_ms, number), pair);
        Ok(())
    }

    /// Answers a poll if there is something to deliver, else gives it back.
    fn try_receive(&mut self, now_ms: u64, poll: Poll) -> Result<Option<Poll>, StoreError> {
        if poll.reply.is_closed() {
            return Ok(None);
        }
        if poll.room.as_ref().is_some_and(|room| !room.is_left()) {
            drop(poll.reply.send(Err(Error::AnswersFull)));
            return Ok(None);
        }
        match refused(self.engine.receive(now_ms, &poll.request))? {
            Ok(delivered) if delivered.is_empty() => return Ok(Some(poll)),
            Ok(delivered) => {
                if let Some(room) = &poll.room {
                    room.take(delivered.iter().map(|one| one.message.weight()).sum());
                }
                let handles: Vec<ReceiptHandle> =
                    delivered.iter().map(|delivery| delivery.handle).collect();
                if poll.reply.send(Ok(delivered)).is_err() {
                    // The consumer left at this very moment: others may have the messages at once, as if it had not come.
                    for handle in handles {
                        refused(self.engine.give_back(now_ms, &handle))?.ok();
                    }
                }
            }
            Err(error) => drop(poll.reply.send(Err(error))),
        }
        Ok(None)
    }

    /// Serves those who wait for messages of a topic as members of a group.
    fn serve(
        &mut self,
        now_ms: u64,
        pair: &TopicAndGroup,
        is_over: &mut dyn FnMut() -> bool,
    ) -> Result<(), StoreError> {
        while !self.engine.is_spent()
            && let Some((number, (end_ms, poll))) =
                self.parked.get_mut(pair).and_then(BTreeMap::pop_first)
        {
            if let Some(poll) = self.try_receive(now_ms, poll)? {
                // Under its old number it stays the first.
                let polls = self.parked.entry(pair.clone()).or_default();
                polls.insert(number, (end_ms, poll));
                if is_over() {
                    self.engine.end_step();
                }
                break;
            }
            self.parked_count -= 1;
            self.ends.remove(&(end_ms, number));
            if is_over() {
                self.engine.end_step();
            }
        }
        if self.parked.get(pair).is_some_and(BTreeMap::is_empty) {
            self.parked.remove(pair);
            self.engine.unwatch(&pair.0, &pair.1);
        } else {
            self.engine.watch(&pair.0, &pair.1);
        }
        Ok(())
    }

    /// Whether polls wait that the engine no longer watches for.
    fn has_forgotten(&self) -> bool {
        self.engine.watched_count() < self.parked.len()
    }

    /// Receives anew for polls whose topic, group or subscription was deleted while they waited: nothing else would wake
    /// them, and later polls of the pair wait for their turn after them.
    fn serve_forgotten(
        &mut self,
        now_ms: u64,
        is_over: &mut dyn FnMut() -> bool,
    ) -> Result<(), StoreError> {
        if !self.has_forgotten() {
            return Ok(());
        }
        let pairs = self.parked.keys();
        let forgotten = pairs.filter(|pair| !self.engine.is_watched(&pair.0, &pair.1));
        let mut forgotten: Vec<_> = forgotten.cloned().collect();
        forgotten.sort_unstable();
        for pair in forgotten {
            if self.engine.is_spent() {
                break;
            }
            self.serve(now_ms, &pair, is_over)?;
        }
        Ok(())
    }

    /// Answers polls that have waited long enough with nothing.
    fn end_polls(&mut self, now_ms: u64, is_over: &mut dyn FnMut() -> bool) {
        while !self.engine.is_spent()
            && let Some(end) = self.ends.first_entry().filter(|end| end.key().0 <= now_ms)
        {
            let ((_, number), pair) = end.remove_entry();
            // Who has waited until now is here.
            self.engine.note_waiting(now_ms, &pair.0, &pair.1);
            let Some(polls) = self.parked.get_mut(&pair) else {
                continue;
            };
            let ended = polls.remove(&number);
            if polls.is_empty() {
                self.parked.remove(&pair);
                self.engine.unwatch(&pair.0, &pair.1);
            }
            if let Some((_, poll)) = ended {
                self.parked_count -= 1;
                drop(poll.reply.send(Ok(Vec::new())));
            }
            if is_over() {
                break;
            }
        }
    }
}

/// Parts a failure of the store, which ends the broker, from a refusal, which is an answer.
fn refused<T>(result: Result<T, engine::Error>) -> Result<Result<T, Error>, StoreError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(engine::Error::Store(error)) => Err(error),
        Err(error) => Ok(Err(Error::Refused(error))),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use bytes::Bytes;
    use engine::{
        Batch, Config, Delivered, GroupSpec, MemoryStore, NewMessage, PartitionId, ReceiveRequest,
        Rows, Space, TagFilter, TopicKind, TopicSpec,
    };
    use tokio::sync::oneshot;

    use super::*;

    type Answered = oneshot::Receiver<Result<Vec<Delivered>, Error>>;

    /// A poll of group g on topic t.
    fn poll(messages_max: usize, invisible_ms: u64) -> (Poll, Answered) {
        let (reply, answer) = oneshot::channel();
        let request = ReceiveRequest {
            topic: "t".into(),
            group: "g".into(),
            messages_max,
            invisible_ms,
            filter: TagFilter::All,
            run: false,
        };
        let poll = Poll {
            lane: 1,
            request,
            wait_ms: 10_000,
            room: None,
            reply,
        };
        (poll, answer)
    }

    fn settle<S: Store>(core: &mut Core<S>, now_ms: u64) {
        if let Some(epoch) = core.apply(now_ms).unwrap() {
            core.durable(epoch);
        }
    }

    /// A store of which a consumer leaves as soon as a message is read.
    #[derive(Debug, Default)]
    struct Leaving {
        store: MemoryStore,
        leaves: RefCell<Option<Answered>>,
    }

    impl Store for Leaving {
        fn apply(&mut self, batch: &Batch) -> Result<(), StoreError> {
            self.store.apply(batch)
        }

        fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
            self.store.get(space, key)
        }

        fn scan(&self, space: Space, from: &[u8], to: &[u8]) -> Result<Rows<'_>, StoreError> {
            if matches!(space, Space::Partition(_)) {
                self.leaves.take();
            }
            self.store.scan(space, from, to)
        }

        fn partitions(&self) -> Vec<PartitionId> {
            self.store.partitions()
        }

        fn drop_partition(&mut self, partition: PartitionId) -> Result<(), StoreError> {
            self.store.drop_partition(partition)
        }

        fn free_bytes(&self) -> Result<u64, StoreError> {
            self.store.free_bytes()
        }
    }

    #[test]
    fn a_consumer_that_left_before_its_answer_uses_up_no_delivery() {
        let mut engine = Engine::open(Leaving::default(), Config::default()).unwrap();
        engine
            .create_topic(TopicSpec::new("t", TopicKind::Mixed))
            .unwrap();
        engine.send(1_000, "t", &NewMessage::default()).unwrap();
        let mut core = Core::new(engine);
        settle(&mut core, 1_000);
        let (asked, answer) = poll(1, 1_000);
        core.engine_mut().store_mut().leaves = RefCell::new(Some(answer));
        core.push(Command::Receive(asked));
        core.step(1_100).unwrap();
        assert!(core.engine().store().leaves.borrow().is_none());
        settle(&mut core, 1_100);
        let (asked, mut answer) = poll(1, 1_000);
        core.push(Command::Receive(asked));
        core.step(1_110).unwrap();
        let delivered = answer.try_recv().unwrap().unwrap();
        assert_eq!(delivered[0].attempt, 1);
    }

    #[test]
    fn deliveries_alone_write_their_leases_at_once_but_not_again_and_again() {
        let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
        engine
            .create_topic(TopicSpec::new("t", TopicKind::Mixed))
            .unwrap();
        for _ in 0..3 {
            engine.send(1_000, "t", &NewMessage::default()).unwrap();
        }
        let mut core = Core::new(engine);
        settle(&mut core, 1_000);
        let receive = |core: &mut Core<MemoryStore>, now_ms| {
            let (asked, mut answer) = poll(1, 60_000);
            core.push(Command::Receive(asked));
            core.step(now_ms).unwrap();
            assert_eq!(answer.try_recv().unwrap().unwrap().len(), 1);
            let epoch = core.apply(now_ms).unwrap();
            if let Some(epoch) = epoch {
                core.durable(epoch);
            }
            epoch.is_some()
        };
        assert!(receive(&mut core, 1_100), "it also writes the subscription");
        assert!(receive(&mut core, 1_101));
        assert!(!receive(&mut core, 1_102));
        assert_eq!(core.next_event_ms(), Some(1_101 + NOTES_EVERY_MS));
        core.step(1_101 + NOTES_EVERY_MS).unwrap();
        assert!(core.apply(1_101 + NOTES_EVERY_MS).unwrap().is_some());
        assert!(!core.engine().has_notes());
    }

    #[test]
    fn polls_of_a_fifo_group_that_a_spent_step_leaves_over_are_served_by_the_next_one() {
        let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
        engine
            .create_topic(TopicSpec::new("t", TopicKind::Mixed))
            .unwrap();
        let group = GroupSpec {
            fifo: true,
            ..GroupSpec::new("g")
        };
        engine.create_group(1_000, group).unwrap();
        let large = NewMessage {
            body: vec![0; 4 << 20].into(),
            ..NewMessage::default()
        };
        for _ in 0..3 {
            engine.send(1_000, "t", &large).unwrap();
        }
        let mut core = Core::new(engine);
        settle(&mut core, 1_000);
        let mut lost = Vec::new();
        for _ in 0..3 {
            let (asked, answer) = poll(1, 500);
            core.push(Command::Receive(asked));
            while core.has_work() {
                core.step(1_100).unwrap();
                settle(&mut core, 1_100);
            }
            lost.push(answer);
        }
        for answer in &mut lost {
            assert_eq!(answer.try_recv().unwrap().unwrap().len(), 1);
        }
        let mut answers = Vec::new();
        for _ in 0..3 {
            let (asked, answer) = poll(1, 60_000);
            core.push(Command::Receive(asked));
            answers.push(answer);
        }
        core.step(1_200).unwrap();
        settle(&mut core, 1_200);
        // All leases end at once.
        core.step(1_700).unwrap();
        settle(&mut core, 1_700);
        let mut steps = 0;
        while core.has_work() {
            core.step(1_700).unwrap();
            steps += 1;
        }
        assert!(steps > 1, "a step reads no more than two of the messages");
        for answer in &mut answers {
            assert_eq!(answer.try_recv().unwrap().unwrap().len(), 1);
        }
    }

    /// A command that does something with the engine at 1,000 ms.
    fn other(work: impl FnOnce(&mut Engine<MemoryStore>) + Send + 'static) -> Command<MemoryStore> {
        Command::Other {
            lane: 0,
            weight: 1,
            work: Box::new(move |engine, _| {
                work(engine);
                Answer::Other(Box::new(drop))
            }),
        }
    }

    #[test]
    fn consumers_that_wait_begin_anew_after_their_subscription_was_deleted() {
        let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
        let topic = TopicSpec::new("t", TopicKind::Delay);
        engine.create_topic(topic.clone()).unwrap();
        let mut core = Core::new(engine);
        let mut now_ms = 1_000;
        let mut go_on = move |core: &mut Core<MemoryStore>| {
            now_ms += 1;
            while core.has_work() {
                core.step(now_ms).unwrap();
                settle(core, now_ms);
            }
            core.step(now_ms).unwrap();
            settle(core, now_ms);
        };
        let mut answers = Vec::new();
        for _ in 0..2 {
            let (asked, answer) = poll(1, 60_000);
            core.push(Command::Receive(asked));
            answers.push(answer);
        }
        go_on(&mut core);
        core.push(other(|engine| engine.unsubscribe("t", "g").unwrap()));
        go_on(&mut core);
        core.push(other(|engine| {
            engine.send(1_000, "t", &NewMessage::default()).unwrap();
        }));
        go_on(&mut core);
        go_on(&mut core);
        assert_eq!(answers[0].try_recv().unwrap().unwrap().len(), 1);
        // The other one still waits, and learns that the topic is gone.
        core.push(other(|engine| engine.delete_topic("t").unwrap()));
        go_on(&mut core);
        assert!(answers[1].try_recv().unwrap().is_err());
        assert!(core.parked.is_empty() && core.ends.is_empty() && core.parked_count == 0);
    }

    #[test]
    fn an_end_without_a_poll_keeps_no_other_poll_waiting() {
        let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
        engine
            .create_topic(TopicSpec::new("t", TopicKind::Delay))
            .unwrap();
        let mut core = Core::new(engine);
        let (reply, mut answer) = oneshot::channel();
        core.push(Command::Receive(Poll {
            lane: 1,
            request: ReceiveRequest {
                topic: "t".into(),
                group: "g".into(),
                messages_max: 1,
                invisible_ms: 1_000,
                filter: TagFilter::All,
                run: false,
            },
            wait_ms: 500,
            room: None,
            reply,
        }));
        core.step(1_000).unwrap();
        core.ends.insert((1_200, 99), ("gone".into(), "g".into()));
        core.step(1_500).unwrap();
        assert!(answer.try_recv().unwrap().unwrap().is_empty());
        assert!(core.ends.is_empty() && core.parked_count == 0);
    }

    /// A budget of bytes, shared by all answers.
    #[derive(Debug)]
    struct Left(std::sync::atomic::AtomicUsize);

    impl crate::Room for Left {
        fn is_left(&self) -> bool {
            self.0.load(std::sync::atomic::Ordering::Relaxed) > 0
        }

        fn take(&self, bytes: usize) {
            let (order, left) = (std::sync::atomic::Ordering::Relaxed, &self.0);
            left.store(left.load(order).saturating_sub(bytes), order);
        }
    }

    #[test]
    fn what_waiting_polls_get_fits_the_room_for_answers() {
        let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
        engine
            .create_topic(TopicSpec::new("t", TopicKind::Mixed))
            .unwrap();
        let mut core = Core::new(engine);
        let room = std::sync::Arc::new(Left(2_500_000.into()));
        let mut answers = Vec::new();
        for _ in 0..8 {
            let (mut poll, answer) = poll(1, 60_000);
            poll.room = Some(std::sync::Arc::<Left>::clone(&room));
            core.push(Command::Receive(poll));
            answers.push(answer);
        }
        core.step(1_000).unwrap();
        assert_eq!(core.parked_count, 8);
        let large = NewMessage {
            body: vec![7; 1_000_000].into(),
            ..NewMessage::default()
        };
        for _ in 0..8 {
            core.engine_mut().send(1_000, "t", &large).unwrap();
        }
        settle(&mut core, 1_100);
        for _ in 0..20 {
            core.step(1_200).unwrap();
        }
        let results = answers.iter_mut().map(|answer| answer.try_recv().unwrap());
        let (got, refused): (Vec<_>, Vec<_>) = results.partition(Result::is_ok);
        assert_eq!((got.len(), refused.len()), (3, 5));
        let full = |result: &Result<_, Error>| matches!(result, Err(Error::AnswersFull));
        assert!(refused.iter().all(full));
    }

    #[test]
    fn a_rare_filter_lets_other_commands_pass_between_its_steps() {
        let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
        for name in ["t", "other"] {
            engine
                .create_topic(TopicSpec::new(name, TopicKind::Mixed))
                .unwrap();
        }
        let tagged = |tag: &str| NewMessage {
            tag: Some(tag.to_owned()),
            ..NewMessage::default()
        };
        for _ in 0..10_000 {
            engine.send(1_000, "t", &tagged("x")).unwrap();
        }
        let mut core = Core::new(engine);
        let settle = |core: &mut Core<MemoryStore>| {
            let epoch = core.apply(1_100).unwrap().unwrap();
            core.durable(epoch);
        };
        settle(&mut core);
        let (reply, mut answer) = oneshot::channel();
        core.push(Command::Receive(Poll {
            lane: 1,
            request: ReceiveRequest {
                topic: "t".into(),
                group: "g".into(),
                messages_max: 1,
                invisible_ms: 1_000,
                filter: TagFilter::parse("y"),
                run: false,
            },
            wait_ms: 10_000,
            room: None,
            reply,
        }));
        core.step(1_100).unwrap();
        assert!(core.has_work(), "it goes on");
        let (reply, _sent) = oneshot::channel();
        core.push(Command::Send {
            lane: 2,
            topic: "other".into(),
            message: Box::new(tagged("z")),
            reply,
        });
        assert_eq!(core.step(1_100).unwrap(), 1);
        let mut steps = 0;
        while core.has_work() {
            assert!(answer.try_recv().is_err());
            core.step(1_100).unwrap();
            let spent = core.engine().spent();
            assert!(spent <= 2 * STEP_UNITS, "{spent} units in a step");
            steps += 1;
        }
        assert!(steps > 3, "{steps} steps");
        core.engine_mut().send(1_100, "t", &tagged("y")).unwrap();
        settle(&mut core);
        core.step(1_101).unwrap();
        assert_eq!(answer.try_recv().unwrap().unwrap().len(), 1);
    }

    #[test]
    fn a_step_that_takes_long_leaves_the_rest_for_the_next_one() {
        let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
        engine
            .create_topic(TopicSpec::new("t", TopicKind::Mixed))
            .unwrap();
        let mut core = Core::new(engine);
        for _ in 0..10 {
            core.push(other(|engine| {
                engine.send(1_000, "t", &NewMessage::default()).unwrap();
            }));
        }
        let mut asked = 0;
        let mut third = || {
            asked += 1;
            asked == 3
        };
        assert_eq!(core.step_until(1_000, &mut third).unwrap(), 3);
        assert_eq!(core.step_until(1_000, &mut || true).unwrap(), 1);
        assert_eq!(core.step(1_000).unwrap(), 6);
        settle(&mut core, 1_000);
        // However long a step takes, one poll is answered in it.
        let mut answers = Vec::new();
        for _ in 0..4 {
            let (asked, answer) = poll(1, 60_000);
            core.push(Command::Receive(asked));
            answers.push(answer);
        }
        for answered in 1..=4 {
            core.step_until(1_100, &mut || true).unwrap();
            let done = answers.iter_mut().filter_map(|one| one.try_recv().ok());
            assert_eq!(done.count(), 1, "in step {answered}");
        }
    }

    #[test]
    fn polls_that_end_together_are_answered_in_steps() {
        let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
        engine
            .create_topic(TopicSpec::new("t", TopicKind::Mixed))
            .unwrap();
        let mut core = Core::new(engine);
        let mut answers = Vec::new();
        for _ in 0..5_000 {
            let (asked, answer) = poll(1, 60_000);
            core.push(Command::Receive(asked));
            answers.push(answer);
        }
        while core.has_work() {
            core.step(1_000).unwrap();
            settle(&mut core, 1_000);
        }
        assert_eq!(core.parked_count, 5_000);
        let mut steps = 0;
        while core.next_event_ms().is_some_and(|at_ms| at_ms <= 11_000) {
            let before = core.parked_count;
            core.step(11_000).unwrap();
            settle(&mut core, 11_000);
            let ended = before - core.parked_count;
            assert!(ended <= 512, "{ended} in one step");
            steps += 1;
        }
        assert!(steps >= 10, "{steps} steps");
        for answer in &mut answers {
            assert!(answer.try_recv().unwrap().unwrap().is_empty());
        }
    }
}
