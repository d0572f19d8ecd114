//! Implements browsing: messages in the order of their due times, which group reads which topic.

use crate::commands::stats::{Found, found_in};
use crate::delivery::timeline::{ReadRange, read_timeline};
use crate::engine::Engine;
use crate::error::{Error, within};
use crate::ids::{GroupId, TopicId};
use crate::limits::{READ_BYTES_MAX, READ_MESSAGES_MAX};
use crate::place::Place;
use crate::state::spec::{GroupSpec, TopicSpec};
use crate::store::Store;

/// Messages that are read of a queue at first, at the least.
const WANTED_MIN: usize = 8;

/// A page of the messages of a topic, over all its queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Browsed {
    /// Messages in the order of their due times.
    pub found: Vec<Found>,
    /// Whether the last one is the last of the topic.
    pub complete: bool,
}

impl<S: Store> Engine<S> {
    /// Messages of a topic after `after`, due ones and waiting ones, without delivering them.
    ///
    /// Ends after `messages_max`, or after about a megabyte.
    pub fn browse(
        &mut self,
        now_ms: u64,
        topic: &str,
        after: Place,
        messages_max: usize,
    ) -> Result<Browsed, Error> {
        within("messages_max", messages_max, READ_MESSAGES_MAX)?;
        let id = self.catalog.topic_id(topic)?;
        self.apply(now_ms)?;
        let queues = self
            .catalog
            .topics
            .get(&id)
            .map_or(0, |topic| topic.spec.queues);
        let partitions = self.partitions.holding(id);
        let mut found: Vec<Found> = Vec::new();
        // After this place there may be messages that were not read.
        let mut end: Option<Place> = (messages_max == 0).then_some(after);
        for queue in 0..queues {
            // Little of each queue at first: with many of them little of each is in the page.
            let mut from = after;
            let mut wanted = std::cmp::max(2 * messages_max / usize::from(queues), WANTED_MIN);
            loop {
                let range = ReadRange {
                    topic: id,
                    queue,
                    after: from,
                    messages_max: std::cmp::min(wanted, messages_max),
                    bytes_max: READ_BYTES_MAX,
                };
                let stretch = read_timeline(&self.store, &partitions, range)?;
                self.spend(stretch.units);
                for (place, error) in stretch.damaged {
                    self.set_aside((id, queue, place), error)?;
                }
                let last = stretch
                    .messages
                    .last()
                    .map_or(from, |message| message.place);
                let messages = stretch.messages.into_iter();
                found.extend(messages.map(|message| found_in(id, queue, message)));
                found.retain(|found| end.is_none_or(|end| found.message.place <= end));
                found.sort_by_key(|found| found.message.place);
                let kept = fitting(&found, messages_max);
                if kept < found.len() {
                    found.truncate(kept);
                    end = Some(found.last().map_or(after, |found| found.message.place));
                }
                if stretch.complete || end.is_some_and(|end| last >= end) {
                    break;
                }
                from = last;
                wanted *= 2;
            }
        }
        Ok(Browsed {
            found,
            complete: end.is_none(),
        })
    }

    /// The number of a topic, which its handles carry.
    pub fn topic_number(&self, topic: &str) -> Result<TopicId, Error> {
        self.catalog.topic_id(topic)
    }

    /// The number of a consumer group, which its handles carry.
    pub fn group_number(&self, group: &str) -> Result<GroupId, Error> {
        self.catalog.group_id(group)
    }

    /// How a consumer group was created, and when one of its consumers was last here, in ms.
    pub fn group(&self, group: &str) -> Result<(GroupSpec, u64), Error> {
        let id = self.catalog.group_id(group)?;
        self.catalog
            .groups
            .get(&id)
            .map(|state| (state.spec.clone(), state.last_seen_ms))
            .ok_or_else(|| Error::GroupNotFound {
                group: group.to_owned(),
            })
    }

    /// How a topic was created, without what it holds.
    pub fn topic_spec(&self, topic: &str) -> Result<TopicSpec, Error> {
        let id = self.catalog.topic_id(topic)?;
        let state = self.catalog.topics.get(&id);
        let spec = state.map(|state| state.spec.clone());
        spec.ok_or_else(|| Error::TopicNotFound {
            topic: topic.to_owned(),
        })
    }

    /// Names of the consumer groups that have read of a topic, sorted.
    pub fn groups_of(&self, topic: &str) -> Result<Vec<String>, Error> {
        let id = self.catalog.topic_id(topic)?;
        let keys = self.subscriptions.keys().filter(|(_, topic)| *topic == id);
        let groups = keys.filter_map(|(group, _)| self.catalog.groups.get(group));
        let mut names: Vec<_> = groups.map(|group| group.spec.name.clone()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Names of the topics a consumer group has read of, sorted.
    pub fn topics_of(&self, group: &str) -> Result<Vec<String>, Error> {
        let id = self.catalog.group_id(group)?;
        let keys = self
            .subscriptions
            .range((id, TopicId::MIN)..=(id, TopicId::MAX));
        let topics = keys.filter_map(|((_, topic), _)| self.catalog.topics.get(topic));
        let mut names: Vec<_> = topics.map(|topic| topic.spec.name.clone()).collect();
        names.sort_unstable();
        Ok(names)
    }
}

/// How many messages at the front are not too many and not too large together.
fn fitting(found: &[Found], messages_max: usize) -> usize {
    let mut bytes = 0;
    found
        .iter()
        .take(messages_max)
        .take_while(|found| {
            let fits = bytes < READ_BYTES_MAX;
            bytes += found.message.weight();
            fits
        })
        .count()
}
