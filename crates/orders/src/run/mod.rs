//! Starts the platform's tasks and stops them in order.

pub mod step;

use std::sync::Arc;

use broker::clock::Clock;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::config::Config;
use crate::error::Result;
use crate::messaging::consumer::Consumer;
use crate::messaging::{Messaging, relay, topics};
use crate::model::outbox::Topic;
use crate::model::timer::TimerKind;
use crate::platform::Platform;
use crate::store;
use crate::store::outbox::OutboxWritten;
use crate::timer::pause;
use crate::timer::sweep;
use crate::webhook::fan_out;
use gateway::Gateways;

/// A platform with the tasks it owns.
pub struct Running {
    /// The handle to it.
    pub platform: Platform,
    writer: Option<JoinHandle<()>>,
    outbox_written: Arc<OutboxWritten>,
    /// Consumers, sweeper, resumer: stopped first.
    workers: JoinSet<()>,
    stop_workers: watch::Sender<bool>,
    /// Stopped when nothing writes to the outbox any longer.
    relay: Option<JoinHandle<()>>,
    stop_relay: watch::Sender<bool>,
}

impl Running {
    /// Opens the database with its writer and no other task: nothing is published and no timer is handled.
    pub async fn open(config: Config, clock: Arc<dyn Clock>, gateways: Gateways) -> Result<Self> {
        let opened = store::open(&config, Arc::clone(&clock)).await?;
        Ok(Self {
            platform: Platform::new(config, clock, opened.db, gateways),
            writer: Some(opened.task),
            outbox_written: opened.outbox_written,
            workers: JoinSet::new(),
            stop_workers: watch::Sender::new(false),
            relay: None,
            stop_relay: watch::Sender::new(false),
        })
    }

    /// Opens the database, creates the topics, and starts the relay, the consumers and the sweeper.
    pub async fn start(
        config: Config,
        clock: Arc<dyn Clock>,
        messaging: Arc<dyn Messaging>,
        gateways: Gateways,
    ) -> Result<Self> {
        let running = Self::open(config, clock, gateways).await?;
        running.begin(messaging).await
    }

    /// Creates the topics and starts the relay, the consumers and the sweeper of a platform that was only opened.
    ///
    /// Timers that are overdue fire at once, so the gateways must be there.
    pub async fn begin(mut self, messaging: Arc<dyn Messaging>) -> Result<Self> {
        if let Err(error) = self.start_tasks(messaging).await {
            self.stop().await;
            return Err(error);
        }
        Ok(self)
    }

    async fn start_tasks(&mut self, messaging: Arc<dyn Messaging>) -> Result<()> {
        let config = self.platform.config().clone();
        for topic in Topic::ALL {
            topics::ensure(&self.platform, messaging.as_ref(), topic).await?;
        }
        self.platform.drained().reset();
        for kind in TimerKind::ALL {
            let topic = Topic::Timers(kind);
            let group = topic.group(&config.prefix);
            let consumers = match kind {
                TimerKind::OrderDeadline => config.closers,
                _ => 1,
            };
            for _ in 0..consumers {
                let consumer = self.consumer(&messaging, topic, &group).await?;
                match kind {
                    TimerKind::OrderDeadline | TimerKind::CouponExpiry => {
                        self.workers.spawn(consumer.run_batches());
                    }
                    TimerKind::OrderClosing
                    | TimerKind::Attempt
                    | TimerKind::Refund
                    | TimerKind::Webhook => {
                        self.workers.spawn(consumer.run_calls(kind));
                    }
                }
            }
        }
        let group = Topic::Events.group(&config.prefix);
        let consumer = self.consumer(&messaging, Topic::Events, &group).await?;
        self.workers.spawn(consumer.run_batches());

        let platform = self.platform.clone();
        let stop = self.stop_workers.subscribe();
        self.workers.spawn(sweep::run(platform, stop));
        let platform = self.platform.clone();
        let stop = self.stop_workers.subscribe();
        self.workers.spawn(pause::run(platform, stop));
        let platform = self.platform.clone();
        let stop = self.stop_workers.subscribe();
        self.workers.spawn(fan_out::run(platform, stop));
        self.relay = Some(tokio::spawn(relay::run(
            self.platform.clone(),
            messaging,
            Arc::clone(&self.outbox_written),
            self.stop_relay.subscribe(),
        )));
        Ok(())
    }

    async fn consumer(
        &self,
        messaging: &Arc<dyn Messaging>,
        topic: Topic,
        group: &str,
    ) -> Result<Consumer> {
        let name = topic.name(&self.platform.config().prefix);
        Ok(Consumer {
            platform: self.platform.clone(),
            topic,
            messaging: Arc::clone(messaging),
            group: group.to_owned(),
            subscription: Arc::from(messaging.subscribe(&name, group).await?),
            stop: self.stop_workers.subscribe(),
        })
    }

    /// Ends when a task has ended that should run until [`Self::stop`]: a defect, after which the process
    /// should be stopped.
    pub async fn broken(&mut self) {
        let worker = async {
            match self.workers.join_next().await {
                Some(joined) => joined,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            ended = worker => ended,
            ended = ended(&mut self.relay) => ended,
            ended = ended(&mut self.writer) => ended,
        };
        tracing::error!(?ended, "a task of the order platform has ended");
    }

    /// Ends every task at once, as a crash would; what was not committed is gone.
    pub(crate) async fn crash(mut self) {
        self.workers.shutdown().await;
        if let Some(relay) = self.relay.take() {
            relay.abort();
            // It was aborted on purpose.
            let _ = relay.await;
        }
        self.platform.writer().abandon();
        if let Some(writer) = self.writer.take() {
            warn_of("end the writer", writer.await);
        }
        self.platform.readers().close().await;
    }

    /// Stops in order: the consumers finish what they have in hand, the relay publishes what is left, the writer
    /// carries out what waits for it, the database is closed.
    pub async fn stop(mut self) {
        self.stop_workers.send_replace(true);
        while let Some(joined) = self.workers.join_next().await {
            warn_of("stop a worker", joined);
        }
        self.stop_relay.send_replace(true);
        if let Some(relay) = self.relay.take() {
            warn_of("stop the relay", relay.await);
        }
        if let Err(error) = self.platform.mark_time().await {
            tracing::warn!(%error, "record when API keys were last used");
        }
        self.platform.writer().stop();
        if let Some(writer) = self.writer.take() {
            warn_of("stop the writer", writer.await);
        }
        self.platform.readers().close().await;
    }
}

/// Ends with the task, which is then forgotten: a finished task cannot be waited for twice.
async fn ended(
    task: &mut Option<JoinHandle<()>>,
) -> std::result::Result<(), tokio::task::JoinError> {
    match task {
        Some(running) => {
            let ended = running.await;
            *task = None;
            ended
        }
        None => std::future::pending().await,
    }
}

fn warn_of(what: &'static str, joined: std::result::Result<(), tokio::task::JoinError>) {
    if let Err(error) = joined {
        tracing::error!(%error, "{what}");
    }
}
