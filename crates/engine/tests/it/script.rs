//! Provides the little language in which the engine's tests are written: commands, each followed by its result.
//!
//! Times are ms after [`START_MS`]. After each command everything is applied and durable and the clock has
//! ticked, unless the script says `manual`. `check` runs the commands and compares the whole transcript, so a
//! test reads as the log of a session; lines that begin with `=` are answers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use engine::{
    Alarm, Bucket, Config, Delivered, Delivery, Engine, Error, GroupChange, GroupSpec, MemoryStore,
    MessageHandle, NewMessage, ReceiptHandle, ReceiveRequest, Reschedule, StartFrom, TagFilter,
    TopicChange, TopicKind, TopicSpec,
};

/// Where the clock of every script starts: the beginning of an hour, so that partitions are easy to see.
pub(crate) const START_MS: u64 = 500_000 * 3_600_000;

/// Runs a script with the default configuration and compares its transcript.
pub(crate) fn check(script: &str) {
    check_with(Config::default(), script);
}

/// Runs a script and compares its transcript.
pub(crate) fn check_with(config: Config, script: &str) {
    let lines: Vec<_> = script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let mut session = Session::new(config);
    let mut transcript = String::new();
    for line in lines.iter().filter(|line| !line.starts_with('=')) {
        writeln!(transcript, "{line}").unwrap();
        if line.starts_with('#') {
            continue;
        }
        for answer in session.run(line).lines() {
            // A script is a plain string, in which a quotation mark would need an escape.
            writeln!(transcript, "= {}", answer.trim_end().replace('"', "'")).unwrap();
        }
    }
    let expected = lines.join("\n") + "\n";
    assert!(
        transcript == expected,
        "the session went otherwise:\n{transcript}\n--- expected:\n{expected}"
    );
}

/// A broker with the names a script has given to messages and deliveries.
struct Session {
    config: Config,
    engine: Option<Engine<MemoryStore>>,
    /// What the disk is sure to hold.
    durable: MemoryStore,
    now_ms: u64,
    manual: bool,
    messages: BTreeMap<String, MessageHandle>,
    made_ids: BTreeMap<String, String>,
    receipts: BTreeMap<(String, String), ReceiptHandle>,
}

/// The words of a command: plain ones in order, and `name=value` pairs.
struct Words<'a> {
    plain: Vec<&'a str>,
    named: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Self {
        let (mut plain, mut named) = (Vec::new(), BTreeMap::new());
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some((name, value)) => drop(named.insert(name, value)),
                None => plain.push(word),
            }
        }
        Self { plain, named }
    }

    fn at(&self, index: usize) -> &'a str {
        self.plain[index]
    }

    fn has(&self, word: &str) -> bool {
        self.plain.contains(&word)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.named.get(name).map(|text| text.parse().unwrap())
    }

    fn text(&self, name: &str) -> Option<String> {
        self.named.get(name).map(|text| (*text).to_owned())
    }

    fn delivery(&self) -> Delivery {
        if let Some(delay_ms) = self.number("after") {
            Delivery::After { delay_ms }
        } else if let Some(at) = self.named.get("at") {
            Delivery::At {
                due_ms: START_MS.saturating_add_signed(at.parse().unwrap()),
            }
        } else if let Some(level) = self.named.get("level") {
            Delivery::Level(level.parse().unwrap())
        } else {
            Delivery::Now
        }
    }
}

/// An instant, counted from the start of the script.
fn instant(at_ms: u64) -> String {
    if at_ms == u64::MAX {
        return "never".to_owned();
    }
    if at_ms == 0 {
        return "0".to_owned();
    }
    let after = i128::from(at_ms) - i128::from(START_MS);
    format!("{after:+}")
}

fn bar_text(bar: &Bucket) -> String {
    let about = if bar.resolution_ms > 0 { "about " } else { "" };
    let (from, to) = (instant(bar.from_ms), instant(bar.to_ms));
    format!("{from}..{to}: {about}{}", bar.messages)
}

fn result_text(result: Result<String, Error>) -> String {
    result.unwrap_or_else(|error| format!("refused: {error}"))
}

impl Session {
    fn new(config: Config) -> Self {
        let engine = Engine::open(MemoryStore::default(), config.clone()).unwrap();
        Self {
            config,
            engine: Some(engine),
            durable: MemoryStore::default(),
            now_ms: START_MS,
            manual: false,
            messages: BTreeMap::new(),
            made_ids: BTreeMap::new(),
            receipts: BTreeMap::new(),
        }
    }

    fn engine(&mut self) -> &mut Engine<MemoryStore> {
        self.engine.as_mut().unwrap()
    }

    fn apply(&mut self) {
        let now_ms = self.now_ms;
        self.engine().apply(now_ms).unwrap();
    }

    fn sync(&mut self) {
        let epoch = self.engine().applied_epoch();
        self.engine().durable(epoch);
        self.durable = self.engine().store().clone();
    }

    fn settle(&mut self) {
        let now_ms = self.now_ms;
        for _ in 0..3 {
            self.engine().tick(now_ms).unwrap();
            self.apply();
            self.sync();
        }
    }

    fn run(&mut self, line: &str) -> String {
        let words = Words::of(line);
        let automatic = !self.manual;
        if automatic {
            self.settle();
        }
        let answer = match words.at(0) {
            "manual" | "automatic" => {
                self.manual = words.at(0) == "manual";
                String::new()
            }
            "at" => {
                self.now_ms = START_MS.saturating_add_signed(words.at(1).parse().unwrap());
                String::new()
            }
            "topic" | "group" | "drop-topic" | "drop-group" | "leave" => self.catalog(&words),
            "change-topic" | "change-group" => self.change(&words),
            "send" | "recall" | "move" => self.produce(&words),
            "recv" | "take" | "drain" => self.receive(&words),
            "ack" | "nack" | "hide" | "dead-letter" | "give-back" | "lapse" => {
                self.end_delivery(&words)
            }
            "tick" | "note" | "apply" | "sync" | "watch" | "waited" | "unwatch" | "woken"
            | "next" => self.drive(&words),
            "crash" | "restart" | "free" => self.restart(&words),
            "rot" => self.rot(&words),
            _ => self.ask(&words),
        };
        if automatic && !self.manual {
            self.settle();
        }
        answer
    }

    fn catalog(&mut self, words: &Words<'_>) -> String {
        let now_ms = self.now_ms;
        let name = words.at(1);
        let result = match words.at(0) {
            "topic" => {
                let kind = match words.at(2) {
                    "normal" => TopicKind::Normal,
                    "fifo" => TopicKind::Fifo,
                    "delay" => TopicKind::Delay,
                    "transaction" => TopicKind::Transaction,
                    _ => TopicKind::Mixed,
                };
                let spec = TopicSpec {
                    indexed: !words.has("unindexed"),
                    quota_bytes: words.number("quota"),
                    queues: words
                        .number("queues")
                        .map_or(1, |queues| u16::try_from(queues).unwrap()),
                    ..TopicSpec::new(name, kind)
                };
                self.engine().create_topic(spec).map(drop)
            }
            "group" => {
                let mut spec = GroupSpec {
                    fifo: words.has("fifo"),
                    ..GroupSpec::new(name)
                };
                if words.has("latest") {
                    spec.start_from = StartFrom::Latest;
                }
                if let Some(attempts) = words.number("attempts") {
                    spec.attempts_max = u16::try_from(attempts).unwrap();
                }
                if let Some(steps) = words.text("backoff") {
                    spec.backoff_ms = steps.split(',').map(|step| step.parse().unwrap()).collect();
                }
                self.engine().create_group(now_ms, spec).map(drop)
            }
            "drop-topic" => self.engine().delete_topic(name),
            "leave" => self.engine().unsubscribe(name, words.at(2)),
            _ => self.engine().delete_group(name),
        };
        result_text(result.map(|()| String::new()))
    }

    fn change(&mut self, words: &Words<'_>) -> String {
        let name = words.at(1);
        let number = |name| {
            words
                .number(name)
                .map(|number| u16::try_from(number).unwrap())
        };
        let flag = |name| words.text(name).map(|text| text == "yes");
        let result = if words.at(0) == "change-topic" {
            let change = TopicChange {
                queues: number("queues"),
                indexed: flag("indexed"),
                quota_bytes: words.text("quota").map(|text| text.parse().ok()),
            };
            self.engine().change_topic(name, &change)
        } else {
            let steps = words.text("backoff");
            let change = GroupChange {
                attempts_max: number("attempts"),
                backoff_ms: steps
                    .map(|steps| steps.split(',').map(|step| step.parse().unwrap()).collect()),
                fifo: flag("fifo"),
            };
            self.engine().change_group(name, change)
        };
        result_text(result.map(|()| String::new()))
    }

    fn produce(&mut self, words: &Words<'_>) -> String {
        let now_ms = self.now_ms;
        match words.at(0) {
            "send" => result_text(self.send(words)),
            "recall" => {
                let handle = self.messages[words.at(1)];
                let result = self.engine().recall(now_ms, &handle);
                result_text(result.map(|verdict| format!("{verdict:?}")))
            }
            _ => {
                let handle = self.messages[words.at(1)];
                let result = self.engine().reschedule(now_ms, &handle, words.delivery());
                result_text(result.map(|verdict| match verdict {
                    Reschedule::Moved(sent) => {
                        // The new handle goes by the name with a prime; the old one must stay good as well.
                        self.messages
                            .insert(format!("{}'", words.at(1)), sent.handle);
                        format!("due {}", instant(sent.due_ms()))
                    }
                    other => format!("{other:?}"),
                }))
            }
        }
    }

    /// `send TOPIC NAME...`: one message for each name, or `count=N` for `NAME0 NAME1 ..`.
    fn send(&mut self, words: &Words<'_>) -> Result<String, Error> {
        let now_ms = self.now_ms;
        let names: Vec<String> = match words.number("count") {
            Some(count) => (0..count)
                .map(|number| format!("{}{number}", words.at(2)))
                .collect(),
            None => words.plain[2..]
                .iter()
                .map(|&name| name.to_owned())
                .collect(),
        };
        let mut answers = Vec::new();
        for name in &names {
            let size = words
                .number("size")
                .map_or(0, |size| usize::try_from(size).unwrap());
            let body = words.text("body");
            let mut body = body.unwrap_or_else(|| name.clone()).into_bytes();
            if size > body.len() {
                body.resize(size, b'.');
            }
            let message = NewMessage {
                body: body.into(),
                message_id: words.text("id"),
                tag: words.text("tag"),
                keys: words.text("keys").map_or_else(Vec::new, |keys| {
                    keys.split(',').map(str::to_owned).collect()
                }),
                message_group: words.text("group"),
                properties: words.number("properties").map_or_else(Vec::new, |count| {
                    let property = |number| (format!("name{number}"), "value".to_owned());
                    (0..count).map(property).collect()
                }),
                delivery: words.delivery(),
                ..NewMessage::default()
            };
            let sent = self.engine().send(now_ms, words.at(1), &message)?;
            self.messages.insert(name.clone(), sent.handle);
            self.made_ids.insert(name.clone(), sent.made_message_id());
            let repeated = if sent.repeated { " repeated" } else { "" };
            answers.push(format!("due {}{repeated}", instant(sent.due_ms())));
        }
        answers.dedup();
        Ok(answers.join("\n"))
    }

    /// `recv TOPIC GROUP`: what is delivered, as `name#attempt`; `take` and `drain` count what comes until nothing
    /// does, and `drain` acknowledges it.
    fn receive(&mut self, words: &Words<'_>) -> String {
        let now_ms = self.now_ms;
        let request = ReceiveRequest {
            topic: words.at(1).to_owned(),
            group: words.at(2).to_owned(),
            messages_max: words
                .number("max")
                .map_or(32, |max| usize::try_from(max).unwrap()),
            invisible_ms: words.number("hide").unwrap_or(30_000),
            filter: words
                .text("tags")
                .map_or(TagFilter::All, |tags| TagFilter::parse(&tags)),
            run: words.has("run"),
        };
        if words.at(0) == "recv" {
            let mut result = self.engine().receive(now_ms, &request);
            if !self.manual && result.as_ref().is_ok_and(Vec::is_empty) {
                // As a poll that waits a little: what was only held back by the disk comes now.
                self.settle();
                result = self.engine().receive(now_ms, &request);
            }
            return match result {
                Ok(delivered) => self.note(words.at(2), &delivered),
                Err(error) => format!("refused: {error}"),
            };
        }
        let mut count = 0;
        for _ in 0..words.number("rounds").unwrap_or(u64::MAX) {
            let mut delivered = self.engine().receive(now_ms, &request).unwrap();
            if !self.manual && delivered.is_empty() {
                self.settle();
                delivered = self.engine().receive(now_ms, &request).unwrap();
            }
            if delivered.is_empty() {
                break;
            }
            count += delivered.len();
            if words.at(0) == "take" {
                self.note(words.at(2), &delivered);
                continue;
            }
            for delivery in delivered {
                self.engine().ack(now_ms, &delivery.handle).unwrap();
            }
            if !self.manual {
                self.settle();
            }
        }
        format!("{count} messages")
    }

    fn note(&mut self, group: &str, delivered: &[Delivered]) -> String {
        if delivered.is_empty() {
            return "nothing".to_owned();
        }
        let mut answers = Vec::new();
        for delivery in delivered {
            assert!(
                delivery.message.place.due_ms <= self.now_ms,
                "{delivery:?} is early at {}",
                self.now_ms
            );
            let body = String::from_utf8_lossy(&delivery.message.body);
            let name = body.trim_end_matches('.').to_owned();
            let numbered = format!("{name}#{}", delivery.attempt);
            for name in [name, numbered.clone()] {
                self.receipts
                    .insert((group.to_owned(), name), delivery.handle);
            }
            answers.push(numbered);
        }
        answers.join(" ")
    }

    /// `ack GROUP NAME...`: ends deliveries; the last one of that name, or the one numbered `name#attempt`.
    fn end_delivery(&mut self, words: &Words<'_>) -> String {
        let now_ms = self.now_ms;
        let mut answers = Vec::new();
        for &name in &words.plain[2..] {
            let handle = self.receipts[&(words.at(1).to_owned(), name.to_owned())];
            let after_ms = words.number("after");
            let engine = self.engine();
            let result = match words.at(0) {
                "ack" => engine.ack(now_ms, &handle),
                "nack" => engine.retry_later(now_ms, &handle, after_ms),
                "hide" => engine.change_invisible(now_ms, &handle, after_ms.unwrap()),
                "give-back" => engine.give_back(now_ms, &handle),
                "lapse" => engine.let_lapse(now_ms, &handle, after_ms.unwrap()),
                _ => engine.dead_letter(now_ms, &handle),
            };
            answers.push(match result {
                Ok(()) => String::new(),
                Err(error) => format!("{name}: {error}"),
            });
        }
        answers.dedup();
        answers.join("\n")
    }

    fn drive(&mut self, words: &Words<'_>) -> String {
        let now_ms = self.now_ms;
        match words.at(0) {
            "tick" => self.engine().tick(now_ms).unwrap(),
            "note" => self.engine().stage_notes(),
            "apply" => self.apply(),
            "sync" => self.sync(),
            "watch" => self.engine().watch(words.at(1), words.at(2)),
            "waited" => self.engine().note_waiting(now_ms, words.at(1), words.at(2)),
            "unwatch" => self.engine().unwatch(words.at(1), words.at(2)),
            "woken" => {
                let engine = self.engine();
                let woken = std::iter::from_fn(|| engine.take_woken(now_ms));
                let names: Vec<_> = woken
                    .map(|(topic, group)| format!("{topic}/{group}"))
                    .collect();
                return if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(" ")
                };
            }
            _ => {
                return self
                    .engine()
                    .next_event_ms()
                    .map_or_else(|| "nothing".to_owned(), instant);
            }
        }
        String::new()
    }

    /// `crash` keeps what is durable, `restart` what was applied.
    fn restart(&mut self, words: &Words<'_>) -> String {
        if words.at(0) == "free" {
            let bytes = words.at(1).parse().unwrap();
            self.engine().store_mut().set_free_bytes(bytes);
            self.engine().refresh_free_bytes().unwrap();
            return String::new();
        }
        let applied = self.engine.take().unwrap().into_store();
        let store = if words.at(0) == "crash" {
            self.durable.clone()
        } else {
            applied
        };
        self.durable = store.clone();
        self.engine = Some(Engine::open(store, self.config.clone()).unwrap());
        String::new()
    }

    /// `rot NAME...`: damages the rows of messages; what memory holds of them is forgotten by a restart.
    fn rot(&mut self, words: &Words<'_>) -> String {
        for &name in &words.plain[1..] {
            let handle = self.messages[name];
            assert!(self.engine().store_mut().damage(&handle), "{name}");
        }
        self.durable = self.engine().store().clone();
        String::new()
    }

    fn ask(&mut self, words: &Words<'_>) -> String {
        let now_ms = self.now_ms;
        let engine = self.engine.as_mut().unwrap();
        match words.at(0) {
            "stats" => result_text(engine.topic_stats(now_ms, words.at(1)).map(|stats| {
                let damaged = match stats.damaged {
                    0 => String::new(),
                    count => format!(", damaged {count}"),
                };
                format!(
                    "waiting {} of {}, {} bytes, appended {}, removed {}{damaged}",
                    stats.waiting, stats.messages, stats.bytes, stats.appended, stats.removed
                )
            })),
            "exact" => {
                let topic = engine.topic_stats(now_ms, words.at(1)).unwrap();
                let group = engine.group_stats(now_ms, words.at(1), words.at(2));
                let said = |exact| if exact { "exact" } else { "estimated" };
                let (waiting, ready) = (topic.waiting_exact, group.unwrap().ready_exact);
                format!("waiting {}, ready {}", said(waiting), said(ready))
            }
            "group-stats" => result_text(engine.group_stats(now_ms, words.at(1), words.at(2)).map(
                |stats| {
                    let acked: Vec<_> =
                        stats.acked_ms.iter().map(|at_ms| instant(*at_ms)).collect();
                    format!(
                        "ready {}, in flight {}, retrying {}, dead {}, acked {}",
                        stats.ready,
                        stats.in_flight,
                        stats.retrying,
                        stats.dead_letters,
                        acked.join(" ")
                    )
                },
            )),
            "histogram" => {
                let steps = usize::try_from(words.number("steps").unwrap()).unwrap();
                let buckets =
                    engine.histogram(now_ms, words.at(1), words.number("step").unwrap(), steps);
                result_text(buckets.map(|buckets| {
                    let lines: Vec<_> = buckets.iter().map(bar_text).collect();
                    lines.join("\n")
                }))
            }
            "peek" | "find" => self.look(words),
            _ => self.count(words),
        }
    }

    fn look(&mut self, words: &Words<'_>) -> String {
        let now_ms = self.now_ms;
        let engine = self.engine.as_mut().unwrap();
        let found = if words.at(0) == "peek" {
            let max = words
                .number("max")
                .map_or(10, |max| usize::try_from(max).unwrap());
            engine.peek(now_ms, words.at(1), max)
        } else {
            let text = words.at(2);
            let text = self
                .made_ids
                .get(text.trim_start_matches('@'))
                .map_or(text, String::as_str);
            engine.find(now_ms, words.at(1), text)
        };
        result_text(found.map(|found| {
            let names: Vec<_> = found
                .iter()
                .map(|one| {
                    let body = String::from_utf8_lossy(&one.message.body).into_owned();
                    assert_eq!(one.handle.place, one.message.place);
                    format!(
                        "{} {}",
                        body.trim_end_matches('.'),
                        instant(one.message.place.due_ms)
                    )
                })
                .collect();
            if names.is_empty() {
                "nothing".to_owned()
            } else {
                names.join(", ")
            }
        }))
    }

    fn count(&mut self, words: &Words<'_>) -> String {
        let engine = self.engine();
        match words.at(0) {
            "partitions" => {
                let partitions = engine::Store::partitions(engine.store());
                let names: Vec<_> = partitions
                    .iter()
                    .map(|one| {
                        format!(
                            "{}+{}h",
                            i64::from(one.start_hour) - 500_000,
                            one.width_ms() / 3_600_000
                        )
                    })
                    .collect();
                if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(" ")
                }
            }
            "rows" => format!("{}", engine.store().rows()),
            "tallies" => format!("{:?}", engine.tallies()),
            "alarms" => {
                let result_text = |alarm| match alarm {
                    Alarm::Unseen {
                        group,
                        topic,
                        unseen_ms,
                        lost,
                    } => {
                        let what = if lost { "lost" } else { "held" };
                        let hours = unseen_ms / 3_600_000;
                        format!("{group} {what} {topic} after {hours}h")
                    }
                    Alarm::TransactionGivenUp { topic, checks, .. } => {
                        format!("given up in {topic} after {checks} checks")
                    }
                    Alarm::Unordered { group, topic } => {
                        format!("{group} keeps no order on {topic}")
                    }
                    Alarm::FiltersDiffer { group, topic } => {
                        format!("filters of {group} on {topic} differ")
                    }
                    Alarm::NeverRead { topic, messages } => {
                        format!("{messages} of {topic} never read")
                    }
                    Alarm::DeadLettersDropped { group, messages } => {
                        format!("{messages} dead letters of {group} dropped")
                    }
                    Alarm::Damaged { topic, due_ms, .. } => {
                        format!("damaged in {topic}, due {}", instant(due_ms))
                    }
                };
                let alarms: Vec<_> = engine.take_alarms().into_iter().map(result_text).collect();
                alarms.join(", ")
            }
            "topics" => engine.topics().join(" "),
            "groups" => engine.groups().join(" "),
            other => panic!("no such command: {other}"),
        }
    }
}
