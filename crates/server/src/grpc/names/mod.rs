//! Caches the numbers of topics and groups, so that a handle is checked against the names it is used with.
//!
//! A handle carries the numbers of its topic and group. A caller who may use one topic must not settle the
//! deliveries of another with a forged handle.

pub(crate) mod namespace;

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use grpc_api::v2::Code;

use super::Shared;
use super::status::Problem;

/// Most names that are cached; when there are more, all are dropped.
const NAMES_MAX: usize = 16_384;

/// Numbers of topics, and of consumer groups by topic.
///
/// A std lock: it is held for a look-up, never across an await.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    count: usize,
    topics: HashMap<String, u32>,
    pairs: HashMap<String, HashMap<String, (u32, u32)>>,
}

impl Known {
    fn make_room(&mut self) {
        self.count += 1;
        if self.count > NAMES_MAX {
            *self = Self::default();
        }
    }
}

impl Names {
    fn topic(&self, topic: &str) -> Option<u32> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.topics.get(topic).copied()
    }

    fn learn_topic(&self, topic: &str, number: u32) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.make_room();
        known.topics.insert(topic.to_owned(), number);
    }

    fn pair(&self, topic: &str, group: &str) -> Option<(u32, u32)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.pairs.get(topic)?.get(group).copied()
    }

    fn learn_pair(&self, topic: &str, group: &str, numbers: (u32, u32)) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.make_room();
        let groups = known.pairs.entry(topic.to_owned()).or_default();
        groups.insert(group.to_owned(), numbers);
    }
}

impl Shared {
    /// Returns the numbers of a topic and a group.
    pub(crate) async fn numbers_of(
        &self,
        topic: &str,
        group: &str,
        numbers: (u32, u32),
    ) -> Result<bool, Problem> {
        if self.names.pair(topic, group) == Some(numbers) {
            return Ok(true);
        }
        // Not cached yet, or created again under the same name.
        let found = self.broker.numbers(topic, group).await?;
        self.names.learn_pair(topic, group, found);
        Ok(found == numbers)
    }

    /// Refuses a handle of another topic than the one it is used with.
    pub(crate) async fn check_topic(&self, topic: &str, number: u32) -> Result<(), Problem> {
        if self.names.topic(topic) == Some(number) {
            return Ok(());
        }
        let found = self.broker.topic_number(topic).await?;
        self.names.learn_topic(topic, found);
        if found == number {
            return Ok(());
        }
        Err(Problem::new(
            Code::BadRequest,
            format!("the handle is not of topic {topic:?}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dropped_when_there_are_too_many() {
        let names = Names::default();
        for index in 0..NAMES_MAX {
            names.learn_topic(&format!("t{index}"), 1);
        }
        assert_eq!(names.topic("t0"), Some(1));
        names.learn_pair("t", "g", (1, 2));
        assert_eq!(
            (names.topic("t0"), names.pair("t", "g")),
            (None, Some((1, 2)))
        );
    }
}
