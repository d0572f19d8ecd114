//! Defines the rules a server gives a client in its answer to the client's settings.

use std::time::Duration;

use grpc_api::v2::RetryPolicy;
use grpc_api::v2::retry_policy::Strategy;
use grpc_api::v2::settings::PubSub;
use grpc_api::v2::{self};

use crate::clock;

/// Messages asked for at a time, if the server does not say.
const BATCH: usize = 32;
/// How long the server is let wait for messages, if it does not say.
const POLL: Duration = Duration::from_secs(20);

/// What the server wants of this client.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rules {
    /// How often something is tried, the first time included.
    pub(crate) attempts_max: u32,
    pub(crate) backoff: Backoff,
    /// Largest body a producer may send, in bytes.
    pub(crate) body_bytes_max: Option<usize>,
    /// Whether a consumer gets the messages of a group one by one.
    pub(crate) fifo: bool,
    /// How many messages a push consumer asks for.
    pub(crate) batch: usize,
    /// How long a push consumer lets the server wait.
    pub(crate) poll: Duration,
}

/// How long to wait after each failure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Backoff {
    Growing {
        first: Duration,
        longest: Duration,
        factor: f64,
    },
    /// The last wait repeats.
    Listed(Vec<Duration>),
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            attempts_max: 3,
            backoff: Backoff::Growing {
                first: Duration::from_millis(10),
                longest: Duration::from_secs(1),
                factor: 2.0,
            },
            body_bytes_max: None,
            fifo: false,
            batch: BATCH,
            poll: POLL,
        }
    }
}

impl Rules {
    pub(crate) fn read(settings: &v2::Settings) -> Self {
        let mut rules = Self::default();
        if let Some(policy) = &settings.backoff_policy {
            rules.adopt(policy);
        }
        match &settings.pub_sub {
            Some(PubSub::Publishing(publishing)) => {
                rules.body_bytes_max = positive(publishing.max_body_size);
            }
            Some(PubSub::Subscription(subscription)) => {
                rules.fifo = subscription.fifo();
                if let Some(batch) = positive(subscription.receive_batch_size()) {
                    rules.batch = batch;
                }
                if let Some(poll) = &subscription.long_polling_timeout {
                    rules.poll = clock::span(poll);
                }
            }
            None => {}
        }
        rules
    }

    fn adopt(&mut self, policy: &RetryPolicy) {
        let attempts = u32::try_from(policy.max_attempts).unwrap_or(0);
        self.attempts_max = std::cmp::max(attempts, 1);
        let span = |span: Option<&grpc_api::Duration>| span.map(clock::span).unwrap_or_default();
        match &policy.strategy {
            Some(Strategy::ExponentialBackoff(backoff)) => {
                self.backoff = Backoff::Growing {
                    first: span(backoff.initial.as_ref()),
                    longest: span(backoff.max.as_ref()),
                    factor: f64::from(backoff.multiplier).clamp(1.0, 100.0),
                };
            }
            Some(Strategy::CustomizedBackoff(backoff)) if !backoff.next.is_empty() => {
                self.backoff = Backoff::Listed(backoff.next.iter().map(clock::span).collect());
            }
            _ => {}
        }
    }
}

fn positive(number: i32) -> Option<usize> {
    usize::try_from(number).ok().filter(|number| *number > 0)
}

impl Backoff {
    /// How long to wait after the attempt of this number, 1 for the first, has failed.
    pub(crate) fn after(&self, attempt: u32) -> Duration {
        let failures = attempt.saturating_sub(1);
        match self {
            Self::Growing {
                first,
                longest,
                factor,
            } => {
                let power = i32::try_from(failures).unwrap_or(i32::MAX);
                let seconds = first.as_secs_f64() * factor.powi(power);
                let wait = Duration::try_from_secs_f64(seconds).unwrap_or(*longest);
                std::cmp::min(wait, *longest)
            }
            Self::Listed(waits) => {
                let index = usize::try_from(failures).unwrap_or(usize::MAX);
                let wait = waits.get(index).or_else(|| waits.last());
                wait.copied().unwrap_or_default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grpc_api::v2::{CustomizedBackoff, ExponentialBackoff, Publishing, Subscription};

    #[test]
    fn waits_follow_the_policy() {
        let seconds = Duration::from_secs;
        let growing = Backoff::Growing {
            first: seconds(1),
            longest: seconds(5),
            factor: 2.0,
        };
        let listed = Backoff::Listed(vec![seconds(1), seconds(30)]);
        for (attempt, grown, of_list) in [(1, 1, 1), (2, 2, 30), (3, 4, 30), (4, 5, 30)] {
            assert_eq!(growing.after(attempt), seconds(grown), "{attempt}");
            assert_eq!(listed.after(attempt), seconds(of_list), "{attempt}");
        }
        assert_eq!(growing.after(u32::MAX), seconds(5));
        assert_eq!(Backoff::Listed(Vec::new()).after(1), Duration::ZERO);
    }

    #[test]
    fn answers_of_servers_are_read() {
        let producer = v2::Settings {
            backoff_policy: Some(RetryPolicy {
                max_attempts: 5,
                strategy: Some(Strategy::ExponentialBackoff(ExponentialBackoff {
                    initial: Some(clock::duration(Duration::from_millis(20))),
                    max: Some(clock::duration(Duration::from_secs(2))),
                    multiplier: 3.0,
                })),
            }),
            pub_sub: Some(PubSub::Publishing(Publishing {
                max_body_size: 10,
                ..Publishing::default()
            })),
            ..v2::Settings::default()
        };
        let rules = Rules::read(&producer);
        assert_eq!((rules.attempts_max, rules.body_bytes_max), (5, Some(10)));
        assert_eq!(rules.backoff.after(2), Duration::from_millis(60));
        let consumer = v2::Settings {
            backoff_policy: Some(RetryPolicy {
                max_attempts: 17,
                strategy: Some(Strategy::CustomizedBackoff(CustomizedBackoff {
                    next: vec![clock::duration(Duration::from_secs(10))],
                })),
            }),
            pub_sub: Some(PubSub::Subscription(Subscription {
                fifo: Some(true),
                receive_batch_size: Some(7),
                long_polling_timeout: Some(clock::duration(Duration::from_secs(9))),
                ..Subscription::default()
            })),
            ..v2::Settings::default()
        };
        let rules = Rules::read(&consumer);
        assert_eq!(
            (rules.fifo, rules.batch, rules.poll.as_secs()),
            (true, 7, 9)
        );
        assert_eq!(
            rules.backoff,
            Backoff::Listed(vec![Duration::from_secs(10)])
        );
        assert_eq!(Rules::read(&v2::Settings::default()), Rules::default());
    }
}
