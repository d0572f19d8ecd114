//! Provides the platform's handle: everything an operation needs, cheap to clone.

use std::sync::Arc;

use broker::clock::Clock;
use sqlx::sqlite::SqlitePool;
use tokio::sync::Notify;

use crate::config::Config;
use crate::gateway::Gateways;
use crate::merchant::KnownKeys;
use crate::store::{Db, Writer};

/// The order platform. Clones are handles to the same platform.
#[derive(Clone)]
pub struct Platform {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    clock: Arc<dyn Clock>,
    db: Db,
    gateways: Gateways,
    known_keys: KnownKeys,
    resumed: Notify,
}

impl Platform {
    pub(crate) fn new(config: Config, clock: Arc<dyn Clock>, db: Db, gateways: Gateways) -> Self {
        let known_keys = KnownKeys::default();
        let shared = Arc::new(Shared {
            config,
            clock,
            db,
            gateways,
            known_keys,
            resumed: Notify::new(),
        });
        Self { shared }
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
        crate::now_ms(&*self.shared.clock)
    }

    /// The gateways it speaks to, by account id; more can be added at any time.
    pub fn gateways(&self) -> &Gateways {
        &self.shared.gateways
    }

    /// Whether the database answers.
    pub async fn check_database(&self) -> crate::Result<()> {
        sqlx::query("select 1").execute(self.readers()).await?;
        Ok(())
    }

    pub(crate) fn readers(&self) -> &SqlitePool {
        &self.shared.db.readers
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.shared.db.writer
    }

    /// Tells the task that lets parked timers go that a pause has ended.
    pub(crate) fn wake_resumer(&self) {
        self.shared.resumed.notify_one();
    }

    /// Ends when a pause has ended.
    pub(crate) async fn resumed(&self) {
        self.shared.resumed.notified().await;
    }

    pub(crate) fn known_keys(&self) -> &KnownKeys {
        &self.shared.known_keys
    }
}
