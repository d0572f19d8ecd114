//! Measures the order platform: orders created over HTTP, closed by their timers, and the cost of each layer.

mod close;
mod create;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use broker::clock::{Clock, SystemClock};
use broker::{Broker, BrokerConfig};
use orders::embedded::Embedded;
use orders::gateway::Gateways;
use orders::http::{ApiSettings, ApiState, install_metrics};
use orders::{
    Config, Deadline, MerchantId, NewLine, NewOrder, NewProduct, Platform, ProductId, Running,
};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::report::Figure;

/// The size of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Orders made over HTTP.
    pub(crate) orders: u64,
    /// Orders that fall due in the same instant.
    pub(crate) burst: u64,
    /// Seconds of orders falling due at a steady rate.
    pub(crate) seconds: u64,
}

impl Scale {
    pub(crate) fn new(quick: bool) -> Self {
        if quick {
            Self {
                orders: 5_000,
                burst: 5_000,
                seconds: 5,
            }
        } else {
            Self {
                orders: 30_000,
                burst: 30_000,
                seconds: 15,
            }
        }
    }
}

/// The phases, each in a process and a folder of its own.
pub(crate) const PHASES: [&str; 5] = [
    "orders-http",
    "orders-platform",
    "orders-sql",
    "orders-burst",
    "orders-lag",
];

/// Runs one phase in this process and returns its results.
pub(crate) async fn run_phase(name: &str, folder: &Path, scale: Scale) -> Result<Vec<Figure>> {
    match name {
        "orders-http" => create::over_http(folder, scale).await,
        "orders-platform" => create::in_process(folder, scale, create::Parts::All).await,
        "orders-sql" => create::in_process(folder, scale, create::Parts::SqlOnly).await,
        "orders-burst" => close::burst(folder, scale).await,
        "orders-lag" => close::lag(folder, scale).await,
        other => anyhow::bail!("there is no phase {other:?}"),
    }
}

/// A platform with one product, on a broker in this process.
pub(crate) struct Subject {
    pub(crate) running: Running,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) merchant: MerchantId,
    pub(crate) product: ProductId,
    _broker: Option<Broker>,
}

impl Subject {
    /// Starts everything, or without a broker, so that no message is published.
    pub(crate) async fn start(folder: &Path, with_broker: bool) -> Result<Self> {
        std::fs::create_dir_all(folder).context("make the folder")?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let config = Config::new(folder.join("orders.db"));
        let (running, broker) = if with_broker {
            let broker = Broker::open_with_clock(
                &folder.join("broker"),
                BrokerConfig::default(),
                Arc::clone(&clock),
            )?;
            let messaging = Arc::new(Embedded::new(broker.clone()));
            (
                Running::start(config, Arc::clone(&clock), messaging, Gateways::default()).await?,
                Some(broker),
            )
        } else {
            (
                Running::open(config, Arc::clone(&clock), Gateways::default()).await?,
                None,
            )
        };
        running.platform.ensure_default_merchant().await?;
        let merchant = MerchantId::fallback();
        let product = NewProduct {
            name: "Tea".to_owned(),
            price_minor: 500,
            currency: "EUR".parse()?,
            stock: 1_000_000,
        };
        let product = running
            .platform
            .create_product(&merchant, product, None)
            .await?
            .value
            .id;
        Ok(Self {
            running,
            clock,
            merchant,
            product,
            _broker: broker,
        })
    }

    pub(crate) fn platform(&self) -> &Platform {
        &self.running.platform
    }

    pub(crate) fn order(&self, number: u64, deadline: Deadline) -> NewOrder {
        NewOrder {
            merchant_order_no: format!("B-{number}"),
            buyer_id: format!("buyer-{}", number % 1_000),
            lines: vec![NewLine {
                product_id: self.product,
                quantity: 1,
            }],
            coupon_id: None,
            deadline,
        }
    }

    /// Serves the API on a free port until the sender is dropped.
    pub(crate) async fn serve(&self) -> Result<(SocketAddr, oneshot::Sender<()>, JoinHandle<()>)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("listen")?;
        let address = listener.local_addr()?;
        let settings = ApiSettings {
            trust_loopback: true,
            trust_ends_with_real_gateway: false,
            ..ApiSettings::default()
        };
        let state = ApiState::new(
            self.platform().clone(),
            Arc::clone(&self.clock),
            install_metrics()?,
            settings,
        );
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move { drop(stopped.await) };
        let server = tokio::spawn(orders::http::run(
            listener,
            state,
            None,
            shutdown,
            Duration::from_secs(5),
        ));
        Ok((address, stop, server))
    }
}
