//! Tests of message ids under random orders of sends, cancels, moves and restarts: no accepted message is lost, and
//! none is stored twice.

use std::collections::BTreeMap;

use engine::{
    Config, Delivery, Engine, Error, Limits, MemoryStore, MessageHandle, NewMessage, Recall,
    ReceiveRequest, Reschedule, TagFilter, TopicKind, TopicSpec,
};
use proptest::prelude::*;

use crate::script::START_MS;

const WINDOW_MS: u64 = 60_000;

/// What was stored last under an id.
struct Known {
    content: u8,
    at_ms: u64,
    handle: MessageHandle,
    cancelled: bool,
}

struct Session {
    engine: Option<Engine<MemoryStore>>,
    now_ms: u64,
    known: BTreeMap<u8, Known>,
    /// How often each body is to be delivered.
    stored: BTreeMap<[u8; 2], usize>,
}

fn config() -> Config {
    let limits = Limits {
        repeat_window_ms: WINDOW_MS,
        ..Limits::default()
    };
    Config {
        limits,
        ..Config::default()
    }
}

impl Session {
    fn new() -> Self {
        let mut engine = Engine::open(MemoryStore::default(), config()).unwrap();
        let spec = TopicSpec::new("t", TopicKind::Delay).with_queues(2);
        engine.create_topic(spec).unwrap();
        Self {
            engine: Some(engine),
            now_ms: START_MS,
            known: BTreeMap::new(),
            stored: BTreeMap::new(),
        }
    }

    fn engine(&mut self) -> &mut Engine<MemoryStore> {
        self.engine.as_mut().unwrap()
    }

    fn settle(&mut self) {
        let now_ms = self.now_ms;
        let engine = self.engine();
        engine.tick(now_ms).unwrap();
        engine.apply(now_ms).unwrap();
        let epoch = engine.applied_epoch();
        engine.durable(epoch);
    }

    fn send(&mut self, id: u8, content: u8, delay_ms: u64) {
        let now_ms = self.now_ms;
        let body = [id, content];
        let message = NewMessage {
            body: body.to_vec().into(),
            message_id: Some(format!("m-{id}")),
            delivery: Delivery::After { delay_ms },
            ..NewMessage::default()
        };
        let result = self.engine().send(now_ms, "t", &message);
        let first = self.known.get(&id);
        let first = first.filter(|first| !first.cancelled && first.at_ms + WINDOW_MS >= now_ms);
        match (result, first) {
            (Ok(sent), None) => {
                assert!(!sent.repeated);
                *self.stored.entry(body).or_default() += 1;
                let known = Known {
                    content,
                    at_ms: now_ms,
                    handle: sent.handle,
                    cancelled: false,
                };
                self.known.insert(id, known);
            }
            (Ok(sent), Some(first)) => {
                assert_eq!(content, first.content);
                assert_eq!((sent.repeated, sent.handle), (true, first.handle));
            }
            (Err(Error::IdTaken { .. }), Some(first)) => assert_ne!(content, first.content),
            (Err(error), _) => panic!("{error}"),
        }
    }

    fn recall(&mut self, id: u8) {
        let now_ms = self.now_ms;
        let Some(handle) = self.known.get(&id).map(|known| known.handle) else {
            return;
        };
        let recall = self.engine().recall(now_ms, &handle).unwrap();
        let known = self.known.get_mut(&id).unwrap();
        if recall == Recall::Cancelled && !known.cancelled {
            known.cancelled = true;
            *self.stored.get_mut(&[id, known.content]).unwrap() -= 1;
        }
    }

    fn reschedule(&mut self, id: u8, delay_ms: u64) {
        let now_ms = self.now_ms;
        let Some(handle) = self.known.get(&id).map(|known| known.handle) else {
            return;
        };
        let delivery = Delivery::After { delay_ms };
        let moved = self.engine().reschedule(now_ms, &handle, delivery).unwrap();
        if let Reschedule::Moved(sent) = moved {
            self.known.get_mut(&id).unwrap().handle = sent.handle;
        }
    }

    fn restart(&mut self) {
        self.settle();
        let store = self.engine.take().unwrap().into_store();
        self.engine = Some(Engine::open(store, config()).unwrap());
    }

    /// Bodies of all that is delivered in the end.
    fn delivered(&mut self) -> BTreeMap<[u8; 2], usize> {
        let mut bodies = BTreeMap::new();
        self.now_ms += 1_000_000;
        let request = ReceiveRequest {
            topic: "t".into(),
            group: "g".into(),
            messages_max: 32,
            invisible_ms: 60_000,
            filter: TagFilter::All,
            run: false,
        };
        let mut empty = 0;
        while empty < 3 {
            self.settle();
            let now_ms = self.now_ms;
            let delivered = self.engine().receive(now_ms, &request).unwrap();
            empty = if delivered.is_empty() { empty + 1 } else { 0 };
            for one in delivered {
                let body = [one.message.body[0], one.message.body[1]];
                *bodies.entry(body).or_default() += 1;
                self.engine().ack(now_ms, &one.handle).unwrap();
            }
        }
        bodies
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_accepted_is_delivered_once(
        steps in proptest::collection::vec((0_u8..9, 0_u8..4, 0_u8..2, 0_u64..30_000, any::<bool>()), 1..100),
    ) {
        let mut session = Session::new();
        for (what, id, content, amount_ms, settle) in steps {
            match what {
                0..4 => session.send(id, content, 10_000 + amount_ms),
                4 => session.recall(id),
                5 => session.reschedule(id, amount_ms),
                6 => session.restart(),
                _ => session.now_ms += amount_ms,
            }
            if settle {
                session.settle();
            }
        }
        let delivered = session.delivered();
        session.stored.retain(|_, count| *count > 0);
        prop_assert_eq!(delivered, session.stored);
    }
}
