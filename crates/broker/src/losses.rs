//! Provides the calls that take messages from a group, with how many those are, and what else is to be watched.

use engine::{Losses, Skipped, TopicStats};

use crate::broker::{Broker, lane};
use crate::error::Error;

/// What an operator has to watch, beside topics and groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Warnings {
    /// Transactions that were given up and have not ended.
    pub given_up_transactions: u64,
    /// Groups whose consumers ask for a topic with filters that differ.
    pub differing_filters: usize,
    /// Groups that keep no order and read a topic that is in order.
    pub unordered_subscriptions: usize,
    /// Messages that were dropped unread since the start.
    pub losses: Losses,
}

impl Broker {
    /// Deletes a topic with its messages; returns what it was.
    pub async fn delete_topic(&self, topic: &str) -> Result<TopicStats, Error> {
        let topic = topic.to_owned();
        self.with(0, move |engine, now_ms| {
            let stats = engine.topic_stats(now_ms, &topic)?;
            engine.delete_topic(&topic)?;
            Ok(stats)
        })
        .await
    }

    /// Deletes a consumer group with its positions; returns what it had not finished.
    pub async fn delete_group(&self, group: &str) -> Result<Skipped, Error> {
        let group = group.to_owned();
        self.with(0, move |engine, now_ms| {
            let skipped = engine.skipped_by_deletion(now_ms, &group)?;
            engine.delete_group(&group)?;
            Ok(skipped)
        })
        .await
    }

    /// Lets a consumer group no longer read a topic: its position and its retries there are forgotten. Returns what it
    /// had not finished there.
    pub async fn unsubscribe(&self, topic: &str, group: &str) -> Result<Skipped, Error> {
        let (topic, group) = (topic.to_owned(), group.to_owned());
        self.with(0, move |engine, now_ms| {
            let skipped = engine.skipped_by_unsubscribe(now_ms, &topic, &group)?;
            engine.unsubscribe(&topic, &group)?;
            Ok(skipped)
        })
        .await
    }

    /// Moves a group on a topic to an instant of the engine clock; handles given out before are void. Returns what it
    /// skips.
    pub async fn reset_group(
        &self,
        topic: &str,
        group: &str,
        to_ms: u64,
    ) -> Result<Skipped, Error> {
        let (topic, group) = (topic.to_owned(), group.to_owned());
        self.with(0, move |engine, now_ms| {
            let skipped = engine.skipped_by_reset(now_ms, &topic, &group, to_ms)?;
            engine.reset_group(now_ms, &topic, &group, to_ms)?;
            Ok(skipped)
        })
        .await
    }

    /// What a reset of a group on a topic to an instant of the engine clock would skip.
    pub async fn skipped_by_reset(
        &self,
        topic: &str,
        group: &str,
        to_ms: u64,
    ) -> Result<Skipped, Error> {
        let (topic, group) = (topic.to_owned(), group.to_owned());
        self.look(0, move |engine, now_ms| {
            engine.skipped_by_reset(now_ms, &topic, &group, to_ms)
        })
        .await
    }

    /// Messages of a topic that a filter of the group has left out since the start.
    pub async fn skipped_by_filter(&self, topic: &str, group: &str) -> Result<u64, Error> {
        let (topic, group) = (topic.to_owned(), group.to_owned());
        self.look(lane(&topic), move |engine, _| {
            Ok(engine.skipped_by_filter(&topic, &group))
        })
        .await
    }

    /// What an operator has to watch.
    pub async fn warnings(&self) -> Result<Warnings, Error> {
        self.look(0, |engine, now_ms| {
            Ok(Warnings {
                given_up_transactions: engine.given_up_transactions(),
                differing_filters: engine.differing_filters(now_ms),
                unordered_subscriptions: engine.unordered_subscriptions(),
                losses: engine.losses(),
            })
        })
        .await
    }
}
