//! Provides the platform's handle: everything an operation needs, cheap to clone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use broker::clock::Clock;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::ids::{MerchantId, OrderId};
use crate::merchant::known_keys::KnownKeys;
use crate::messaging::drained::Drained;
use crate::messaging::progress::Progress;
use crate::messaging::publishing::Publishing;
use crate::metrics;
use crate::model::audit::{PlacedEntry, Who};
use crate::model::outbox::Topic;
use crate::model::timer::TimerKind;
use crate::payment::missing::MissingGateways;
use crate::store::followers::Followers;
use crate::store::idempotency::{self, Answered, Keyed};
use crate::store::sql::{DbError, Readers};
use crate::store::verify::{self, Finding, Tally};
use crate::store::{self, Db, Writer, attention, audit, merchants, outbox, pauses};
use crate::webhook::places::Places;
use crate::webhook::sender::{HttpSender, Reach, WebhookSender};
use gateway::Gateways;

/// How long the writer may take for a request that writes nothing.
const WRITER_ANSWERS: Duration = Duration::from_secs(2);

/// The order platform. Clones are handles to the same platform.
#[derive(Clone)]
pub struct Platform {
    shared: Arc<Shared>,
    writer: Writer,
    writer_ahead: Writer,
}

struct Shared {
    config: Config,
    clock: Arc<dyn Clock>,
    readers: Readers,
    followers: Followers,
    places: Places,
    gateways: Gateways,
    known_keys: KnownKeys,
    resumed: Notify,
    drained: Drained,
    publishing: Publishing,
    progress: Progress,
    missing_gateways: MissingGateways,
    /// Whether an account at another gateway than the simulator was made since the start.
    real_gateway: AtomicBool,
}

impl Platform {
    pub(crate) fn new(config: Config, clock: Arc<dyn Clock>, db: Db, gateways: Gateways) -> Self {
        let known_keys = KnownKeys::default();
        let reach = Reach::of(&config);
        let places = Places::new(Arc::new(HttpSender::new(reach)));
        let shared = Arc::new(Shared {
            config,
            clock,
            readers: db.readers,
            followers: db.followers,
            places,
            gateways,
            known_keys,
            resumed: Notify::new(),
            drained: Drained::default(),
            publishing: Publishing::default(),
            progress: Progress::default(),
            missing_gateways: MissingGateways::default(),
            real_gateway: AtomicBool::new(false),
        });
        Self {
            shared,
            writer: db.writer,
            writer_ahead: db.writer_ahead,
        }
    }

    /// The same platform for requests on behalf of `who`, which its audit trail names.
    #[must_use]
    pub fn acting(&self, who: &Who) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            writer: self.writer.acting(who),
            writer_ahead: self.writer_ahead.acting(who),
        }
    }

    /// Up to `limit` entries of the audit trail of a subject, those after `after_seq`, oldest first.
    pub async fn audit_trail(
        &self,
        merchant_id: &MerchantId,
        subject: &str,
        after_seq: i64,
        limit: usize,
    ) -> Result<Vec<PlacedEntry>> {
        audit::page(self.readers(), merchant_id, (subject, after_seq), limit).await
    }

    /// The configuration it runs with.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// The clock it runs by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// The time, in ms since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        store::clock_ms(&*self.shared.clock)
    }

    /// The gateways it speaks to, by account id; more can be added at any time.
    pub fn gateways(&self) -> &Gateways {
        &self.shared.gateways
    }

    /// Fails if the database does not answer or takes no writes.
    pub async fn check_database(&self) -> Result<()> {
        store::ping(self.readers()).await?;
        let written = self
            .writer()
            .run((), |_, ()| Box::pin(std::future::ready(Ok(()))));
        tokio::select! {
            written = written => written,
            () = self.shared.clock.sleep(WRITER_ANSWERS) => {
                Err(DbError::unavailable("the writer does not answer").into())
            }
        }
    }

    /// Fails if timers have waited so long to be published that no order is taken; answers why publishing is impaired.
    pub(crate) fn check_publishing(&self) -> Result<Option<&'static str>> {
        let waits_ms = self.publishing().waits_ms(self.now_ms());
        if waits_ms > self.config().publish_grace_ms {
            return Err(Error::NotPublishing { waits_ms });
        }
        let failing = |topic: &Topic| self.publishing().is_failing(*topic);
        Ok(Topic::ALL.into_iter().find(failing).map(|topic| match topic {
            Topic::Timers(TimerKind::Webhook) => {
                "webhooks cannot be scheduled at present; they wait in the outbox"
            }
            Topic::Timers(_) => {
                "messages cannot be published at present; orders close by the sweep, later than their deadlines"
            }
            Topic::Events => "events cannot be published at present; they wait in the outbox",
        }))
    }

    /// Why closing is paused by no request, if it is.
    pub(crate) async fn check_clock(&self) -> Result<Option<&'static str>> {
        let doubted = pauses::clock_doubted_since_ms(self.readers()).await?;
        Ok(doubted.map(|_| {
            "closing is paused: the clock is too far ahead of the last recorded instant to be believed; check it, then resume everything"
        }))
    }

    /// Records that the clock can be believed now, unless closing is paused because it may be wrong, and when API keys
    /// were last used.
    pub(crate) async fn mark_time(&self) -> Result<()> {
        let used = self.known_keys().take_used();
        self.writer()
            .run(used, |tx, used| {
                Box::pin(async move {
                    merchants::set_used(tx, used).await?;
                    store::mark_time(tx).await
                })
            })
            .await
    }

    /// Checks every invariant; answers what breaks each. Reads whole tables: meant for people and tests.
    pub async fn verify(&self) -> Result<Vec<Finding>> {
        verify::check(self.readers()).await
    }

    /// Counts what the platform holds. Reads whole tables.
    pub async fn tally(&self) -> Result<Tally> {
        verify::tally(self.readers()).await
    }

    /// Orders that wait for their payment, their deadline or a gateway.
    pub async fn open_orders(&self) -> Result<u64> {
        verify::open_orders(self.readers()).await
    }

    /// How long after its deadline each order that was closed by timeout was closed, in ms.
    pub async fn close_lags_ms(&self) -> Result<Vec<(OrderId, i64)>> {
        verify::close_lags_ms(self.readers()).await
    }

    /// Counts what needs an operator for the metrics: after a restart it still does.
    pub(crate) async fn measure_needs_operator(&self) {
        match attention::count(self.readers()).await {
            Ok(counts) => {
                for (what, count) in counts {
                    metrics::set_needs_operator(what, count);
                }
            }
            Err(error) => tracing::warn!(%error, "cannot count what needs an operator"),
        }
    }

    /// Counts the pauses in force for the metrics.
    pub(crate) async fn measure_pauses(&self) {
        match pauses::count_in_force(self.readers()).await {
            Ok(counts) => {
                for (cause, count) in counts {
                    metrics::set_closing_paused(cause, count);
                }
            }
            Err(error) => tracing::warn!(%error, "cannot count the pauses"),
        }
    }

    /// Measures the outbox for the metrics.
    pub(crate) async fn measure_outbox(&self) {
        match outbox::measure(self.readers()).await {
            Ok(measured) => {
                let oldest_ms = measured.oldest_ms;
                let age_ms = oldest_ms.map_or(0, |oldest_ms| self.now_ms() - oldest_ms);
                metrics::set_outbox_age(age_ms);
                metrics::set_outbox_parked(measured.parked);
                for topic in Topic::ALL {
                    let mut waiting = measured.waiting.iter();
                    let waiting = waiting.find(|(each, _)| *each == topic);
                    let name = topic.name(&self.config().prefix);
                    metrics::set_outbox_waiting(name, waiting.map_or(0, |(_, messages)| *messages));
                }
            }
            Err(error) => tracing::warn!(%error, "cannot measure the outbox"),
        }
    }

    /// Messages in the outbox that have not been published yet.
    pub async fn unpublished(&self) -> Result<u64> {
        outbox::count_waiting(self.readers()).await
    }

    /// Runs an operation of a merchant, unless its idempotency key has been used.
    pub(crate) async fn run_keyed<I, T>(&self, keyed: Keyed<I, T>) -> Result<Answered<T>>
    where
        I: Send + Sync + 'static,
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let outcome = self
            .writer()
            .run(keyed, |tx, keyed| Box::pin(idempotency::run(tx, keyed)))
            .await;
        match outcome {
            Ok(value) => Ok(Answered {
                value,
                replayed: false,
            }),
            Err(Error::Replayed(response)) => Ok(Answered {
                value: serde_json::from_str(&response).map_err(|error| Error::Unreadable {
                    what: "answer",
                    detail: error.to_string(),
                })?,
                replayed: true,
            }),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn readers(&self) -> &Readers {
        &self.shared.readers
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.writer
    }

    /// The writer for steps that close orders, which go ahead of other requests.
    pub(crate) fn writer_ahead(&self) -> &Writer {
        &self.writer_ahead
    }

    /// Wakes the task that releases parked timers: a pause has ended.
    pub(crate) fn wake_resumer(&self) {
        self.shared.resumed.notify_one();
    }

    /// Ends when a pause has ended.
    pub(crate) async fn resumed(&self) {
        self.shared.resumed.notified().await;
    }

    /// What sends webhooks, and what is being sent.
    pub(crate) fn places(&self) -> &Places {
        &self.shared.places
    }

    /// Sends webhooks by other means than HTTP, for a simulator.
    pub fn set_webhook_sender(&self, sender: Arc<dyn WebhookSender>) {
        self.shared.places.set_sender(sender);
    }

    /// Who waits for events.
    pub(crate) fn followers(&self) -> &Followers {
        &self.shared.followers
    }

    /// How the relay gets on.
    pub(crate) fn publishing(&self) -> &Publishing {
        &self.shared.publishing
    }

    /// How far the relay has come.
    pub(crate) fn progress(&self) -> &Progress {
        &self.shared.progress
    }

    /// When the broker had nothing else to deliver, by kind of timer.
    pub(crate) fn drained(&self) -> &Drained {
        &self.shared.drained
    }

    /// Whether an account at another gateway than the simulator was made since the start.
    pub fn has_new_real_gateway(&self) -> bool {
        self.shared.real_gateway.load(Ordering::Acquire)
    }

    /// Notes that an account at another gateway than the simulator is being made.
    pub(crate) fn note_real_gateway(&self) {
        self.shared.real_gateway.store(true, Ordering::Release);
    }

    /// Which accounts were found to have no gateway.
    pub(crate) fn missing_gateways(&self) -> &MissingGateways {
        &self.shared.missing_gateways
    }

    pub(crate) fn known_keys(&self) -> &KnownKeys {
        &self.shared.known_keys
    }
}
