//! Answers a client's settings: what it sent, with the values of this server.

use broker::{GroupSpec, Refusal, TopicKind};
use grpc_api::v2::retry_policy::Strategy;
use grpc_api::v2::settings::PubSub;
use grpc_api::v2::{
    ClientType, Code, CustomizedBackoff, ExponentialBackoff, Language, Metric, Publishing,
    RetryPolicy, Settings, Subscription, Ua,
};

use super::Shared;
use super::convert::duration_of_ms;
use super::limits::{BATCH_ADVISED, POLL_MS_MAX, SESSION_TOPICS_MAX, VERSION_CHARS_MAX};
use super::peer::Peer;
use super::session::Profile;
use super::status::Problem;

/// The request timeout beyond the long poll, for a client that sends none.
const REQUEST_TIMEOUT_MS: u64 = 3_000;
/// How often a producer tries to send a message.
const SEND_ATTEMPTS: i32 = 3;

/// Why settings are refused.
#[derive(Debug)]
pub(crate) enum Unsettled {
    /// They are neither of a producer nor of a consumer: the stream ends.
    Shapeless,
    /// The problem is reported to the client.
    Refused(Problem),
}

impl From<Problem> for Unsettled {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

impl Shared {
    /// Returns the answer to settings, and the profile of the client.
    pub(crate) async fn settle(
        &self,
        peer: &Peer,
        mut settings: Settings,
    ) -> Result<(Settings, Profile), Unsettled> {
        let language = settings
            .user_agent
            .as_ref()
            .map_or_else(Language::default, Ua::language);
        let mut profile = Profile {
            kind: settings.client_type(),
            language,
            remote: peer.remote,
            ..Profile::default()
        };
        if let Some(agent) = &settings.user_agent {
            profile.version = agent.version.chars().take(VERSION_CHARS_MAX).collect();
        }
        match &mut settings.pub_sub {
            Some(PubSub::Publishing(publishing)) => {
                profile.topics = self.settle_publishing(peer, publishing)?;
                let namespace = peer.namespace_of(publishing.topics.first());
                namespace.clone_into(&mut profile.namespace);
                settings.backoff_policy = Some(producer_backoff());
            }
            Some(PubSub::Subscription(subscription)) => {
                let group = self
                    .settle_subscription(peer, subscription, &mut profile)
                    .await?;
                settings.backoff_policy = Some(consumer_backoff(&group, language));
            }
            None => return Err(Unsettled::Shapeless),
        }
        settings
            .request_timeout
            .get_or_insert_with(|| duration_of_ms(REQUEST_TIMEOUT_MS));
        // Metrics of clients are not collected.
        settings.metric = Some(Metric::default());
        Ok((settings, profile))
    }

    fn settle_publishing(
        &self,
        peer: &Peer,
        publishing: &mut Publishing,
    ) -> Result<Vec<String>, Problem> {
        few_topics(publishing.topics.len())?;
        let mut topics = Vec::with_capacity(publishing.topics.len());
        for topic in &publishing.topics {
            let topic = peer.topic_name(Some(topic))?;
            peer.may_publish(&topic)?;
            topics.push(topic.into_owned());
        }
        publishing.max_body_size = i32::try_from(self.config.body_bytes_max).unwrap_or(i32::MAX);
        publishing.validate_message_type = true;
        Ok(topics)
    }

    async fn settle_subscription(
        &self,
        peer: &Peer,
        subscription: &mut Subscription,
        profile: &mut Profile,
    ) -> Result<GroupSpec, Problem> {
        if matches!(
            profile.kind,
            ClientType::LitePushConsumer | ClientType::LiteSimpleConsumer
        ) {
            let message = "lite topics are not supported; use a push or a simple consumer";
            return Err(Problem::new(Code::Unsupported, message));
        }
        few_topics(subscription.subscriptions.len())?;
        let group = peer.group_name(subscription.group.as_ref())?;
        peer.may_join(&group)?;
        let mut topics = Vec::with_capacity(subscription.subscriptions.len());
        for entry in &subscription.subscriptions {
            let topic = peer.topic_name(entry.topic.as_ref())?;
            peer.may_consume(&topic, &group)?;
            topics.push(topic.into_owned());
        }
        let spec = self.group_for(&group, &topics).await?;
        profile.group = Some(group.into_owned());
        profile.topics = topics;
        subscription.fifo = Some(spec.fifo);
        subscription.receive_batch_size = Some(BATCH_ADVISED);
        let longest = duration_of_ms(POLL_MS_MAX);
        match &mut subscription.long_polling_timeout {
            Some(wait) if (0..longest.seconds).contains(&wait.seconds) => {}
            wait => *wait = Some(longest),
        }
        Ok(spec)
    }

    /// Returns the settings of a group. A new one is created as a FIFO group if all its topics are FIFO
    /// topics; otherwise it is created with the defaults when it first receives.
    async fn group_for(&self, group: &str, topics: &[String]) -> Result<GroupSpec, Problem> {
        match self.broker.group(group).await {
            Ok((spec, _)) => return Ok(spec),
            Err(broker::Error::Refused(Refusal::GroupNotFound { .. })) => {}
            Err(error) => return Err(error.into()),
        }
        let mut spec = GroupSpec::new(group);
        let mut all_fifo = !topics.is_empty();
        for topic in topics {
            let spec = self.broker.topic_spec(topic).await;
            all_fifo &= spec.is_ok_and(|spec| spec.kind == TopicKind::Fifo);
        }
        if !all_fifo || !self.config.auto_group {
            return Ok(spec);
        }
        spec.fifo = true;
        match self.broker.create_group(spec.clone()).await {
            Ok(()) => Ok(spec),
            // Another client created it meanwhile, with other settings.
            Err(broker::Error::Refused(Refusal::Exists { .. })) => {
                Ok(self.broker.group(group).await?.0)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn few_topics(topics: usize) -> Result<(), Problem> {
    if topics > SESSION_TOPICS_MAX {
        let message =
            format!("the settings have {topics} topics; at most {SESSION_TOPICS_MAX} are allowed");
        return Err(Problem::new(Code::BadRequest, message));
    }
    Ok(())
}

/// Returns 10 ms, 20 ms, up to a second. Producers support only this kind.
fn producer_backoff() -> RetryPolicy {
    RetryPolicy {
        max_attempts: SEND_ATTEMPTS,
        strategy: Some(Strategy::ExponentialBackoff(ExponentialBackoff {
            initial: Some(duration_of_ms(10)),
            max: Some(duration_of_ms(1_000)),
            multiplier: 2.0,
        })),
    }
}

/// Returns the back-off of the group. The Node.js client supports only exponential back-off, all others only a
/// list; an empty list would stop some of them, so a group without back-off gets one of a second.
fn consumer_backoff(group: &GroupSpec, language: Language) -> RetryPolicy {
    let first_ms = group.backoff_ms.first().copied().unwrap_or(1_000);
    let last_ms = group.backoff_ms.last().copied().unwrap_or(first_ms);
    let strategy = if language == Language::NodeJs {
        Strategy::ExponentialBackoff(ExponentialBackoff {
            initial: Some(duration_of_ms(first_ms)),
            max: Some(duration_of_ms(std::cmp::max(first_ms, last_ms))),
            multiplier: 2.0,
        })
    } else {
        let mut next: Vec<_> = group
            .backoff_ms
            .iter()
            .copied()
            .map(duration_of_ms)
            .collect();
        if next.is_empty() {
            next.push(duration_of_ms(first_ms));
        }
        Strategy::CustomizedBackoff(CustomizedBackoff { next })
    };
    RetryPolicy {
        max_attempts: i32::from(group.attempts_max),
        strategy: Some(strategy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumers_get_a_back_off_they_support() {
        let group = GroupSpec {
            backoff_ms: vec![1_500, 60_000],
            attempts_max: 5,
            ..GroupSpec::new("g")
        };
        let policy = consumer_backoff(&group, Language::Java);
        assert_eq!(policy.max_attempts, 5);
        let Some(Strategy::CustomizedBackoff(waits)) = policy.strategy else {
            panic!("a list was expected");
        };
        assert_eq!(waits.next, [duration_of_ms(1_500), duration_of_ms(60_000)]);
        let Some(Strategy::ExponentialBackoff(waits)) =
            consumer_backoff(&group, Language::NodeJs).strategy
        else {
            panic!("an exponential back-off was expected");
        };
        assert_eq!(waits.max, Some(duration_of_ms(60_000)));
        let none = GroupSpec {
            backoff_ms: Vec::new(),
            ..group
        };
        let Some(Strategy::CustomizedBackoff(waits)) =
            consumer_backoff(&none, Language::Golang).strategy
        else {
            panic!("a list was expected");
        };
        assert_eq!(waits.next.len(), 1);
    }
}
