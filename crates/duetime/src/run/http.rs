//! Opens the broker's JSON API: messages, timers and administration over HTTP, on a port of its own.

use std::future::Future;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use server::Tls;
use server::http::{ApiSettings, ApiState};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The API, being served.
#[derive(Debug)]
pub(crate) struct Api {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Ends when it has been told to stop and everybody is served.
    pub(crate) served: JoinHandle<()>,
}

/// Takes the port.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} (http.listen)"))
}

/// Serves the API of `broker` on `listener` until `stop` ends, with TLS beside clear text if there is any.
pub(crate) fn serve(
    listener: TcpListener,
    broker: broker::Broker,
    settings: ApiSettings,
    tls: Option<Tls>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<Api> {
    let address = listener.local_addr().context("ask for the address")?;
    let state = ApiState::new(broker, settings);
    let served = tokio::spawn(server::http::run(listener, state, tls, stop));
    Ok(Api { address, served })
}
