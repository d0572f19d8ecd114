//! Provides the route of a topic: its message queues, and the choice among them.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use grpc_api::v2::{MessageQueue, Permission};

use crate::connection::Connection;

/// A message queue, and the connection to its server.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) info: MessageQueue,
    pub(crate) connection: Arc<Connection>,
}

impl Queue {
    /// The name of the broker the queue is on.
    pub(crate) fn broker(&self) -> &str {
        self.info.broker.as_ref().map_or("", |broker| &broker.name)
    }

    fn allows(&self, wanted: Permission) -> bool {
        // Only brokers with id 0, the masters, are written to and read from.
        let first = self
            .info
            .broker
            .as_ref()
            .is_none_or(|broker| broker.id == 0);
        let permission = self.info.permission();
        first && (permission == Permission::ReadWrite || permission == wanted)
    }
}

/// The queues of one topic.
#[derive(Debug)]
pub(crate) struct Route {
    writable: Vec<Queue>,
    /// One queue of each broker: a receive from any queue returns messages of all queues of the topic on that
    /// broker.
    readable: Vec<Queue>,
    turn: AtomicUsize,
}

impl Route {
    pub(crate) fn new(queues: Vec<Queue>) -> Self {
        let mut readable: Vec<Queue> = Vec::new();
        for queue in &queues {
            let is_known = |known: &Queue| known.broker() == queue.broker();
            if queue.allows(Permission::Read) && !readable.iter().any(is_known) {
                readable.push(queue.clone());
            }
        }
        let writable = queues
            .into_iter()
            .filter(|queue| queue.allows(Permission::Write))
            .collect();
        Self {
            writable,
            readable,
            turn: AtomicUsize::new(0),
        }
    }

    /// A queue for a message: always the same one for a message group, otherwise round robin.
    pub(crate) fn to_write(&self, message_group: Option<&str>) -> Option<&Queue> {
        match message_group {
            None => self.round_robin(&self.writable),
            Some(group) => {
                let mut hasher = DefaultHasher::new();
                group.hash(&mut hasher);
                let count = u64::try_from(self.writable.len()).ok()?;
                let index = hasher.finish().checked_rem(count)?;
                self.writable.get(usize::try_from(index).ok()?)
            }
        }
    }

    /// A queue to read from, round robin.
    pub(crate) fn to_read(&self) -> Option<&Queue> {
        self.round_robin(&self.readable)
    }

    fn round_robin<'a>(&self, queues: &'a [Queue]) -> Option<&'a Queue> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        queues.get(turn.checked_rem(queues.len())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grpc_api::v2::Broker;

    fn queue(broker: &str, id: i32, permission: Permission) -> Queue {
        Queue {
            info: MessageQueue {
                id,
                permission: permission.into(),
                broker: Some(Broker {
                    name: broker.to_owned(),
                    ..Broker::default()
                }),
                ..MessageQueue::default()
            },
            connection: Connection::new(Vec::new(), None),
        }
    }

    #[test]
    fn queues_are_taken_round_robin_and_groups_stay() {
        let route = Route::new(vec![
            queue("a", 0, Permission::ReadWrite),
            queue("a", 1, Permission::ReadWrite),
            queue("b", 0, Permission::Read),
            queue("c", 0, Permission::Write),
            queue("d", 0, Permission::None),
        ]);
        let place = |queue: Option<&Queue>| queue.map(|q| (q.broker().to_owned(), q.info.id));
        let written: Vec<_> = (0..4).filter_map(|_| place(route.to_write(None))).collect();
        let expected = [("a", 0), ("a", 1), ("c", 0), ("a", 0)];
        assert_eq!(written, expected.map(|(name, id)| (name.to_owned(), id)));
        let first = place(route.to_write(Some("g")));
        assert!(first.is_some() && (0..9).all(|_| place(route.to_write(Some("g"))) == first));
        let read: Vec<_> = (0..2).filter_map(|_| place(route.to_read())).collect();
        assert_ne!(read[0], read[1]);
        assert!(read.iter().all(|(name, id)| name != "c" && *id == 0));
    }

    #[test]
    fn an_empty_route_gives_nothing() {
        let route = Route::new(Vec::new());
        assert!(route.to_write(None).is_none());
        assert!(route.to_write(Some("g")).is_none());
        assert!(route.to_read().is_none());
    }
}
