//! Serves the broker's JSON API: messages, timers and administration over HTTP, on its own port.

use std::future::Future;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use server::Tls;
use server::http::{ApiSettings, ApiState};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The API, being served.
#[derive(Debug)]
pub(super) struct BrokerApi {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Ends when it was asked to stop and every request has been answered.
    pub(super) served: JoinHandle<()>,
}

/// Binds the port.
pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} (http.listen)"))
}

/// Serves the API of `broker` on `listener` until `stop` ends; with `tls` it accepts TLS beside clear text.
pub(super) fn serve(
    listener: TcpListener,
    broker: broker::Broker,
    settings: ApiSettings,
    tls: Option<Tls>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<BrokerApi> {
    let address = listener.local_addr().context("read the bound address")?;
    let state = ApiState::new(broker, settings);
    let served = tokio::spawn(server::http::run(listener, state, tls, stop));
    Ok(BrokerApi { address, served })
}
