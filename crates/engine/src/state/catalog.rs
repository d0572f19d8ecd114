//! Provides the catalog: all topics and consumer groups, by number and by name.

use std::collections::{BTreeMap, HashMap};

use crate::error::Error;
use crate::ids::{GroupId, TopicId};
use crate::state::spec::{DEAD_LETTER_PREFIX, GroupSpec, TopicSpec};
use crate::state::topic::TopicState;

/// A consumer group with what is known of its life.
#[derive(Clone, Debug)]
pub(crate) struct GroupState {
    pub(crate) spec: GroupSpec,
    /// When one of its consumers last asked for something; kept to the hour on disk.
    pub(crate) last_seen_ms: u64,
    pub(crate) stored_seen_ms: u64,
}

/// All topics and groups, by number and by name.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) topics: BTreeMap<TopicId, TopicState>,
    pub(crate) groups: BTreeMap<GroupId, GroupState>,
    topic_names: HashMap<String, TopicId>,
    group_names: HashMap<String, GroupId>,
}

impl Catalog {
    pub(crate) fn add_topic(&mut self, id: TopicId, spec: TopicSpec) {
        self.topic_names.insert(spec.name.clone(), id);
        self.topics.insert(id, TopicState::new(spec));
    }

    pub(crate) fn remove_topic(&mut self, id: TopicId) -> Option<TopicState> {
        let topic = self.topics.remove(&id)?;
        self.topic_names.remove(&topic.spec.name);
        Some(topic)
    }

    pub(crate) fn add_group(&mut self, id: GroupId, spec: GroupSpec, last_seen_ms: u64) {
        self.group_names.insert(spec.name.clone(), id);
        self.groups.insert(
            id,
            GroupState {
                spec,
                last_seen_ms,
                stored_seen_ms: last_seen_ms,
            },
        );
    }

    pub(crate) fn remove_group(&mut self, id: GroupId) -> Option<GroupState> {
        let group = self.groups.remove(&id)?;
        self.group_names.remove(&group.spec.name);
        Some(group)
    }

    pub(crate) fn find_topic(&self, name: &str) -> Option<TopicId> {
        self.topic_names.get(name).copied()
    }

    pub(crate) fn find_group(&self, name: &str) -> Option<GroupId> {
        self.group_names.get(name).copied()
    }

    pub(crate) fn topic_id(&self, name: &str) -> Result<TopicId, Error> {
        self.find_topic(name).ok_or_else(|| Error::TopicNotFound {
            topic: name.to_owned(),
        })
    }

    pub(crate) fn group_id(&self, name: &str) -> Result<GroupId, Error> {
        self.find_group(name).ok_or_else(|| Error::GroupNotFound {
            group: name.to_owned(),
        })
    }

    /// The name of the group whose dead letters a topic holds.
    pub(crate) fn dead_letter_group(&self, topic: TopicId) -> Result<&str, Error> {
        let topic = self.topics.get(&topic).ok_or(Error::MessageNotFound)?;
        let group = topic.spec.name.strip_prefix(DEAD_LETTER_PREFIX);
        group.ok_or(Error::Invalid {
            field: "handle",
            reason: "must name a dead letter",
        })
    }
}
