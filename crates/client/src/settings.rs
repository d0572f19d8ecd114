//! Defines the settings a server answers to a client's settings.

use std::time::Duration;

use grpc_api::v2::RetryPolicy;
use grpc_api::v2::retry_policy::Strategy;
use grpc_api::v2::settings::PubSub;
use grpc_api::v2::{self};

use crate::timestamp;

/// Messages requested per receive, unless the server says otherwise.
const RECEIVE_BATCH_SIZE: usize = 32;
/// Long-polling time, unless the server says otherwise.
const LONG_POLLING_TIMEOUT: Duration = Duration::from_secs(20);

/// What the server asks of this client.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServerSettings {
    /// Attempts per send or delivery, the first one included.
    pub(crate) attempts_max: u32,
    pub(crate) backoff: Backoff,
    /// Largest body a producer may send, in bytes.
    pub(crate) body_bytes_max: Option<usize>,
    /// Whether the consumer group is FIFO: the messages of a message group are delivered one by one.
    pub(crate) fifo: bool,
    /// Messages a push consumer requests per receive.
    pub(crate) receive_batch_size: usize,
    /// How long the server may hold a receive of a push consumer open.
    pub(crate) long_polling_timeout: Duration,
}

/// The wait before each retry.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Backoff {
    Exponential {
        first: Duration,
        longest: Duration,
        factor: f64,
    },
    /// One wait per retry; the last one repeats.
    Fixed(Vec<Duration>),
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            attempts_max: 3,
            backoff: Backoff::Exponential {
                first: Duration::from_millis(10),
                longest: Duration::from_secs(1),
                factor: 2.0,
            },
            body_bytes_max: None,
            fifo: false,
            receive_batch_size: RECEIVE_BATCH_SIZE,
            long_polling_timeout: LONG_POLLING_TIMEOUT,
        }
    }
}

impl ServerSettings {
    pub(crate) fn read(answered: &v2::Settings) -> Self {
        let mut settings = Self::default();
        if let Some(policy) = &answered.backoff_policy {
            settings.set_retry_policy(policy);
        }
        match &answered.pub_sub {
            Some(PubSub::Publishing(publishing)) => {
                settings.body_bytes_max = positive(publishing.max_body_size);
            }
            Some(PubSub::Subscription(subscription)) => {
                settings.fifo = subscription.fifo();
                if let Some(size) = positive(subscription.receive_batch_size()) {
                    settings.receive_batch_size = size;
                }
                if let Some(timeout) = &subscription.long_polling_timeout {
                    settings.long_polling_timeout = timestamp::span(timeout);
                }
            }
            None => {}
        }
        settings
    }

    fn set_retry_policy(&mut self, policy: &RetryPolicy) {
        let attempts = u32::try_from(policy.max_attempts).unwrap_or(0);
        self.attempts_max = std::cmp::max(attempts, 1);
        let span =
            |span: Option<&grpc_api::Duration>| span.map(timestamp::span).unwrap_or_default();
        match &policy.strategy {
            Some(Strategy::ExponentialBackoff(backoff)) => {
                self.backoff = Backoff::Exponential {
                    first: span(backoff.initial.as_ref()),
                    longest: span(backoff.max.as_ref()),
                    factor: f64::from(backoff.multiplier).clamp(1.0, 100.0),
                };
            }
            Some(Strategy::CustomizedBackoff(backoff)) if !backoff.next.is_empty() => {
                self.backoff = Backoff::Fixed(backoff.next.iter().map(timestamp::span).collect());
            }
            _ => {}
        }
    }
}

fn positive(number: i32) -> Option<usize> {
    usize::try_from(number).ok().filter(|number| *number > 0)
}

impl Backoff {
    /// The wait after failed attempt number `attempt`; the first attempt is 1.
    pub(crate) fn after(&self, attempt: u32) -> Duration {
        let failures = attempt.saturating_sub(1);
        match self {
            Self::Exponential {
                first,
                longest,
                factor,
            } => {
                let power = i32::try_from(failures).unwrap_or(i32::MAX);
                let seconds = first.as_secs_f64() * factor.powi(power);
                let wait = Duration::try_from_secs_f64(seconds).unwrap_or(*longest);
                std::cmp::min(wait, *longest)
            }
            Self::Fixed(waits) => {
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
        let exponential = Backoff::Exponential {
            first: seconds(1),
            longest: seconds(5),
            factor: 2.0,
        };
        let fixed = Backoff::Fixed(vec![seconds(1), seconds(30)]);
        for (attempt, grown, of_fixed) in [(1, 1, 1), (2, 2, 30), (3, 4, 30), (4, 5, 30)] {
            assert_eq!(exponential.after(attempt), seconds(grown), "{attempt}");
            assert_eq!(fixed.after(attempt), seconds(of_fixed), "{attempt}");
        }
        assert_eq!(exponential.after(u32::MAX), seconds(5));
        assert_eq!(Backoff::Fixed(Vec::new()).after(1), Duration::ZERO);
    }

    #[test]
    fn settings_of_servers_are_read() {
        let producer = v2::Settings {
            backoff_policy: Some(RetryPolicy {
                max_attempts: 5,
                strategy: Some(Strategy::ExponentialBackoff(ExponentialBackoff {
                    initial: Some(timestamp::duration(Duration::from_millis(20))),
                    max: Some(timestamp::duration(Duration::from_secs(2))),
                    multiplier: 3.0,
                })),
            }),
            pub_sub: Some(PubSub::Publishing(Publishing {
                max_body_size: 10,
                ..Publishing::default()
            })),
            ..v2::Settings::default()
        };
        let settings = ServerSettings::read(&producer);
        assert_eq!(
            (settings.attempts_max, settings.body_bytes_max),
            (5, Some(10))
        );
        assert_eq!(settings.backoff.after(2), Duration::from_millis(60));
        let consumer = v2::Settings {
            backoff_policy: Some(RetryPolicy {
                max_attempts: 17,
                strategy: Some(Strategy::CustomizedBackoff(CustomizedBackoff {
                    next: vec![timestamp::duration(Duration::from_secs(10))],
                })),
            }),
            pub_sub: Some(PubSub::Subscription(Subscription {
                fifo: Some(true),
                receive_batch_size: Some(7),
                long_polling_timeout: Some(timestamp::duration(Duration::from_secs(9))),
                ..Subscription::default()
            })),
            ..v2::Settings::default()
        };
        let settings = ServerSettings::read(&consumer);
        assert_eq!(
            (
                settings.fifo,
                settings.receive_batch_size,
                settings.long_polling_timeout.as_secs()
            ),
            (true, 7, 9)
        );
        assert_eq!(
            settings.backoff,
            Backoff::Fixed(vec![Duration::from_secs(10)])
        );
        assert_eq!(
            ServerSettings::read(&v2::Settings::default()),
            ServerSettings::default()
        );
    }
}
