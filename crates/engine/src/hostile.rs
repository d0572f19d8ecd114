//! Tries the decoders of rows and handles, and a whole engine, on hostile input.

use bytes::Bytes;
use fuzz::Target;

use crate::commands::receive::ReceiveRequest;
use crate::config::Config;
use crate::engine::Engine;
use crate::format::codec::{Reader, put_place, put_varint, read_place};
use crate::format::handle::{MessageHandle, ReceiptHandle, TransactionHandle};
use crate::format::record::{Head, MessageFields, open, read_message, seal};
use crate::ids::TopicKind;
use crate::memory_store::MemoryStore;
use crate::message::{Delivery, NewMessage, TagFilter};
use crate::place::Place;
use crate::state::spec::{GroupSpec, TopicSpec};
use crate::state::subscription::{ProgressRecord, RetryRow};
use crate::state::topic::{Counts, Totals};
use crate::store::{Batch, Space, Store};

const MANIFEST: &str = env!("CARGO_MANIFEST_DIR");
const NOW_MS: u64 = 1_795_510_800_000;

fn place() -> Place {
    Place {
        due_ms: NOW_MS,
        sequence: 7,
        level: 1,
    }
}

fn message(delay_ms: u64) -> NewMessage {
    NewMessage {
        body: Bytes::from_static(b"pay me"),
        message_id: Some(format!("m-{delay_ms}")),
        tag: Some("t".into()),
        keys: vec!["k".into(), "l".into()],
        properties: vec![("a".into(), "b".into())],
        delivery: Delivery::After { delay_ms },
        born_ms: NOW_MS,
        ..NewMessage::default()
    }
}

/// A message row without version and checksum.
fn bare_message() -> Vec<u8> {
    let mut buffer = Vec::new();
    MessageFields::of_new(&message(0), place(), NOW_MS).encode_bare(&mut buffer);
    buffer
}

/// The content of a value, without version and checksum.
fn content(sealed: &[u8]) -> Vec<u8> {
    sealed[1..sealed.len() - 4].to_vec()
}

/// Every row of an engine in which everything there is has happened.
fn rows() -> Vec<(Space, Vec<u8>, Bytes)> {
    let store = busy_engine().into_store();
    let spaces = std::iter::once(Space::Meta);
    let spaces = spaces.chain(store.partitions().into_iter().map(Space::Partition));
    let mut rows = Vec::new();
    for space in spaces {
        let found = store.scan(space, &[0], &[u8::MAX]).unwrap();
        rows.extend(found.map(|row| {
            let (key, value) = row.unwrap();
            (space, key.to_vec(), value)
        }));
    }
    rows
}

fn sync(engine: &mut Engine<MemoryStore>, now_ms: u64) {
    engine.apply(now_ms).unwrap();
    engine.durable(engine.applied_epoch());
}

fn request(topic: &str) -> ReceiveRequest {
    ReceiveRequest {
        topic: topic.into(),
        group: "g".into(),
        messages_max: 3,
        invisible_ms: 1_000,
        filter: TagFilter::All,
        run: false,
    }
}

fn busy_engine() -> Engine<MemoryStore> {
    let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
    for (topic, kind) in [("t", TopicKind::Mixed), ("x", TopicKind::Transaction)] {
        engine.create_topic(TopicSpec::new(topic, kind)).unwrap();
    }
    let mut group = GroupSpec::new("g");
    group.backoff_ms = vec![1_000, 5_000];
    group.attempts_max = 2;
    engine.create_group(NOW_MS, group).unwrap();
    for delay_ms in [0, 1, 2, 3, 60_000, 86_400_000, 86_400_000_000] {
        engine.send(NOW_MS, "t", &message(delay_ms)).unwrap();
    }
    let moved = engine.send(NOW_MS, "t", &message(70_000)).unwrap();
    sync(&mut engine, NOW_MS);
    let to = Delivery::After { delay_ms: 90_000 };
    engine.reschedule(NOW_MS, &moved.handle, to).unwrap();
    let half = engine.prepare(NOW_MS, "x", &message(5), None).unwrap();
    engine.prepare(NOW_MS, "x", &message(6), None).unwrap();
    sync(&mut engine, NOW_MS);
    let ended = engine.end_transaction(NOW_MS, &half.transaction, true);
    ended.unwrap();
    let mut now_ms = NOW_MS;
    for _ in 0..6 {
        now_ms += 2_000;
        engine.tick(now_ms).unwrap();
        sync(&mut engine, now_ms);
        let received = engine.receive(now_ms, &request("t")).unwrap();
        if let Some(one) = received.last() {
            engine.ack(now_ms, &one.handle).unwrap();
        }
        sync(&mut engine, now_ms);
    }
    engine
}

/// Does everything that reads rows; it must end, whatever it answers.
fn exercise(engine: &mut Engine<MemoryStore>) {
    let mut now_ms = NOW_MS + 20_000;
    for _ in 0..3 {
        now_ms += 40_000;
        let _ = engine.tick(now_ms);
        for topic in ["t", "x", "%DLQ%g"] {
            let _ = engine.receive(now_ms, &request(topic));
            let _ = engine.topic_stats(now_ms, topic);
            let _ = engine.group_stats(now_ms, topic, "g");
            let _ = engine.histogram(now_ms, topic, 3_600_000, 24);
            let _ = engine.browse(now_ms, topic, Place::START, 10);
            let _ = engine.find(now_ms, topic, "m-60000");
            let _ = engine.timer(now_ms, topic, "k");
        }
        let _ = engine.take_checks(now_ms, 10);
        let _ = engine.next_check_ms();
        let _ = engine.next_event_ms();
        let _ = engine.send(now_ms, "t", &message(1));
        if engine.apply(now_ms).is_err() {
            return;
        }
        engine.durable(engine.applied_epoch());
    }
}

#[test]
fn rows_of_any_content_are_read() {
    let mut target = Target::new(MANIFEST, "row").runs(60_000);
    for (space, key, value) in rows() {
        if value.len() > 5 {
            let kind = if space == Space::Meta {
                key[0]
            } else {
                64 + key[0]
            };
            target = target.seed([vec![kind], content(&value)].concat());
        }
    }
    target = target.seed([vec![0], bare_message()].concat());
    target.check(|input| {
        let Some((kind, rest)) = input.split_first() else {
            return;
        };
        let mut reader = Reader::new(Bytes::copy_from_slice(rest));
        let reader = &mut reader;
        let _ = match kind {
            1 => Head::read(reader).map(drop),
            2 => TopicSpec::read(reader).map(drop),
            3 => GroupSpec::read(reader).map(drop),
            4 => ProgressRecord::read(reader).map(drop),
            5 => RetryRow::read(reader).map(drop),
            6 => read_place(reader).map(drop),
            9 => Totals::read(reader).map(drop),
            67 => Counts::read(reader).map(drop),
            _ => read_message(reader, 0, place()).map(drop),
        };
    });
}

#[test]
fn values_with_any_version_and_checksum_are_opened() {
    let mut value = Vec::new();
    seal(&mut value, |buffer| put_place(buffer, place()));
    let target = Target::new(MANIFEST, "value").seed(value);
    target.check(|input| {
        let value = Bytes::copy_from_slice(input);
        let _ = open(Space::Meta, b"k", &value, read_place);
        // The same with a checksum that fits.
        let mut sealed = Vec::new();
        seal(&mut sealed, |buffer| buffer.extend_from_slice(input));
        let _ = open(Space::Meta, b"k", &Bytes::from(sealed), read_place);
    });
}

/// The handle whose kind and content these are, as text: its checksum is no secret.
fn forged(input: &[u8]) -> String {
    let (kind, rest) = input.split_first().unwrap_or((&0, &[]));
    crate::format::handle::to_text(*kind, |buffer| buffer.extend_from_slice(rest))
}

fn handles() -> Target {
    let mut receipt = vec![2, 1, 1, 0, 0];
    put_place(&mut receipt, place());
    put_varint(&mut receipt, 1);
    let mut message = vec![1, 1, 0];
    put_place(&mut message, place());
    put_varint(&mut message, 7);
    let retried = [receipt.clone(), {
        let mut retry = Vec::new();
        put_place(&mut retry, place());
        retry
    }];
    Target::new(MANIFEST, "handle")
        .seed(receipt)
        .seed(message)
        .seed(retried.concat())
        .seed(vec![3, 2, 9])
}

#[test]
fn any_text_is_taken_for_a_handle_or_not() {
    let message = forged(&[1, 1, 0]);
    let target = Target::new(MANIFEST, "handle-text").seed(message);
    target.check(|input| {
        let text = String::from_utf8_lossy(input);
        let _ = text.parse::<MessageHandle>();
        let _ = text.parse::<ReceiptHandle>();
        let _ = text.parse::<TransactionHandle>();
        let _ = TagFilter::parse(&text);
    });
}

#[test]
fn forged_handles_do_no_harm() {
    let store = busy_engine().into_store();
    let target = handles().runs(1_500).heap_bytes(16 << 20);
    target.check(|input| {
        let text = forged(input);
        let mut engine = Engine::open(store.clone(), Config::default()).unwrap();
        let now_ms = NOW_MS + 20_000;
        if let Ok(handle) = text.parse::<MessageHandle>() {
            assert_eq!(handle.to_string().parse(), Ok(handle));
            let _ = engine.browse(now_ms, "t", handle.place, 10);
            let _ = engine.reschedule(now_ms, &handle, Delivery::After { delay_ms: 5 });
            let _ = engine.recall(now_ms, &handle);
            let _ = engine.replay_dead_letter(now_ms, &handle);
            let _ = engine.purge_dead_letter(now_ms, &handle);
        }
        if let Ok(handle) = text.parse::<ReceiptHandle>() {
            let _ = engine.change_invisible(now_ms, &handle, 1_000);
            let _ = engine.retry_later(now_ms, &handle, Some(1_000));
            let _ = engine.dead_letter(now_ms, &handle);
            let _ = engine.ack(now_ms, &handle);
        }
        if let Ok(handle) = text.parse::<TransactionHandle>() {
            let _ = engine.end_transaction(now_ms, &handle, true);
        }
        engine.apply(now_ms).unwrap();
        exercise(&mut engine);
    });
}

#[test]
fn a_store_with_a_damaged_row_is_refused_or_lived_with() {
    let rows = rows();
    let mut target = Target::new(MANIFEST, "store")
        .runs(1_500)
        .heap_bytes(32 << 20);
    for (index, (_, _, value)) in rows.iter().enumerate() {
        if value.len() > 5 {
            target = target.seed([vec![u8::try_from(index).unwrap()], content(value)].concat());
        }
    }
    target.check(|input| {
        let Some((index, rest)) = input.split_first() else {
            return;
        };
        let mut batch = Batch::default();
        for (at, (space, key, value)) in rows.iter().enumerate() {
            let is_damaged = at == usize::from(*index);
            batch.put(*space, key, |buffer| {
                if is_damaged {
                    seal(buffer, |buffer| buffer.extend_from_slice(rest));
                } else {
                    buffer.extend_from_slice(value);
                }
            });
        }
        let mut store = MemoryStore::default();
        store.apply(&batch).unwrap();
        if let Ok(mut engine) = Engine::open(store, Config::default()) {
            exercise(&mut engine);
        }
    });
}
