//! Starts the platform's tasks and stops them in order.

use std::sync::Arc;

use broker::clock::Clock;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::db;
use crate::error::Result;
use crate::gateway::Gateways;
use crate::platform::Platform;

/// A platform with the tasks it owns.
pub struct Running {
    /// The handle to it.
    pub platform: Platform,
    writer: JoinHandle<()>,
    outbox_written: Arc<Notify>,
}

impl Running {
    /// Opens the database without any task but its writer: nothing is published and no timer is answered.
    pub async fn open(config: Config, clock: Arc<dyn Clock>, gateways: Gateways) -> Result<Self> {
        let opened = db::open(&config, Arc::clone(&clock)).await?;
        Ok(Self {
            platform: Platform::new(config, clock, opened.db, gateways),
            writer: opened.task,
            outbox_written: opened.outbox_written,
        })
    }

    /// Carries out what waits for the writer, then closes the database.
    pub async fn close(self) {
        self.platform.writer().stop();
        if let Err(error) = self.writer.await {
            tracing::error!(%error, "stop the writer");
        }
        self.platform.readers().close().await;
    }
}
