//! Provides the calls of operators and of owners of keyed timers.

use std::sync::Arc;

use engine::{
    Browsed, Delivery, Engine, GroupChange, GroupSpec, MessageHandle, Place, Recall, Timer,
    TimerContent, TimerSet, TopicChange, TopicSpec, Traffic,
};
use storage::FjallStore;

use crate::broker::{Broker, lane};
use crate::error::Error;

/// Room on the disk below the broker, and what it takes of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes free, looked at ten times a second.
    pub free_bytes: u64,
    /// Bytes below which new sends stop.
    pub reserve_bytes: u64,
    /// Bytes the broker's store takes.
    pub store_bytes: u64,
    /// Bytes of messages held in memory for readers.
    pub held_bytes: u64,
}

impl Broker {
    /// Sets the timer under a key: makes it, or moves the one that waits. No other call comes in between.
    pub async fn set_timer(
        &self,
        topic: &str,
        key: &str,
        delivery: Delivery,
        content: TimerContent,
    ) -> Result<TimerSet, Error> {
        let (topic, key): (Arc<str>, Arc<str>) = (Arc::from(topic), Arc::from(key));
        self.with(lane(&topic), move |engine, now_ms| {
            engine.set_timer(now_ms, (&topic, &key), delivery, content)
        })
        .await
    }

    /// What is known of the timer under a key.
    pub async fn timer(&self, topic: &str, key: &str) -> Result<Timer, Error> {
        let (topic, key) = (topic.to_owned(), key.to_owned());
        self.with(lane(&topic), move |engine, now_ms| {
            engine.timer(now_ms, &topic, &key)
        })
        .await
    }

    /// Cancels the timer under a key, and answers what became of it.
    pub async fn cancel_timer(&self, topic: &str, key: &str) -> Result<Recall, Error> {
        let (topic, key) = (topic.to_owned(), key.to_owned());
        self.with(lane(&topic), move |engine, now_ms| {
            engine.cancel_timer(now_ms, &topic, &key)
        })
        .await
    }

    /// Messages of a topic after `after`, due ones and waiting ones, without delivering them; ends after
    /// `messages_max`, or after about a megabyte.
    pub async fn browse(
        &self,
        topic: &str,
        after: Place,
        messages_max: usize,
    ) -> Result<Browsed, Error> {
        let topic = topic.to_owned();
        self.with(0, move |engine, now_ms| {
            engine.browse(now_ms, &topic, after, messages_max)
        })
        .await
    }

    /// Replays dead letters to their group; each has its own outcome, in the same order.
    pub async fn replay_dead_letters(
        &self,
        handles: Vec<MessageHandle>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        self.each_dead_letter(handles, Engine::replay_dead_letter)
            .await
    }

    /// Purges dead letters; each has its own outcome, in the same order.
    pub async fn purge_dead_letters(
        &self,
        handles: Vec<MessageHandle>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        self.each_dead_letter(handles, Engine::purge_dead_letter)
            .await
    }

    async fn each_dead_letter(
        &self,
        handles: Vec<MessageHandle>,
        act: fn(&mut Engine<FjallStore>, u64, &MessageHandle) -> Result<(), engine::Error>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        self.with(0, move |engine, now_ms| {
            let handles = handles.iter();
            let results = handles.map(|handle| act(engine, now_ms, handle).map_err(Error::Refused));
            Ok(results.collect())
        })
        .await
    }

    /// The numbers of a topic and a consumer group, which handles of deliveries carry.
    pub async fn numbers(&self, topic: &str, group: &str) -> Result<(u32, u32), Error> {
        let (topic, group) = (topic.to_owned(), group.to_owned());
        self.look(lane(&topic), move |engine, _| {
            Ok((engine.topic_number(&topic)?, engine.group_number(&group)?))
        })
        .await
    }

    /// The number of a topic, which handles of its messages carry.
    pub async fn topic_number(&self, topic: &str) -> Result<u32, Error> {
        let topic = topic.to_owned();
        self.look(lane(&topic), move |engine, _| engine.topic_number(&topic))
            .await
    }

    /// How a topic was created, without what it holds.
    pub async fn topic_spec(&self, topic: &str) -> Result<TopicSpec, Error> {
        let topic = topic.to_owned();
        self.look(lane(&topic), move |engine, _| engine.topic_spec(&topic))
            .await
    }

    /// Changes settings of a topic.
    pub async fn change_topic(&self, topic: &str, change: TopicChange) -> Result<(), Error> {
        let topic = topic.to_owned();
        self.with(0, move |engine, _| engine.change_topic(&topic, &change))
            .await
    }

    /// Changes settings of a consumer group; its positions are kept.
    pub async fn change_group(&self, group: &str, change: GroupChange) -> Result<(), Error> {
        let group = group.to_owned();
        self.with(0, move |engine, _| engine.change_group(&group, change))
            .await
    }

    /// How a consumer group was created, and when one of its consumers was last here, in ms.
    pub async fn group(&self, group: &str) -> Result<(GroupSpec, u64), Error> {
        let group = group.to_owned();
        self.look(0, move |engine, _| engine.group(&group)).await
    }

    /// Names of the consumer groups that have read of a topic.
    pub async fn groups_of(&self, topic: &str) -> Result<Vec<String>, Error> {
        let topic = topic.to_owned();
        self.look(0, move |engine, _| engine.groups_of(&topic))
            .await
    }

    /// Names of the topics a consumer group has read of.
    pub async fn topics_of(&self, group: &str) -> Result<Vec<String>, Error> {
        let group = group.to_owned();
        self.look(0, move |engine, _| engine.topics_of(&group))
            .await
    }

    /// What went in and out since the start.
    pub async fn traffic(&self) -> Result<Traffic, Error> {
        self.look(0, |engine, _| Ok(engine.traffic())).await
    }

    /// Room on the disk below the broker, and what it takes of the memory.
    pub async fn space(&self) -> Result<Space, Error> {
        self.look(0, |engine, _| {
            let room = engine.room();
            Ok(Space {
                free_bytes: room.free_bytes,
                reserve_bytes: room.reserve_bytes,
                store_bytes: engine.store().disk_bytes()?,
                held_bytes: engine.held_bytes(),
            })
        })
        .await
    }
}
