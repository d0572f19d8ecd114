//! Provides the HTTP/2 connection to one server, which reconnects after a failure.
//!
//! A call is written directly to the `h2` connection, without a queue, a task or a wake-up in between. That matters to a
//! client that sends tens of thousands of small messages per second.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use clock::monotonic::Instant;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Uri};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::config::HostPort;
use crate::error::Error;
use crate::framing::frame;
use crate::stream::{RequestStream, ResponseStream};
use crate::tls::Connector;

/// Time limit of one attempt to connect, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Wait after the first failure to connect; each further one doubles it.
const RECONNECT_WAIT: Duration = Duration::from_millis(100);
/// Longest wait between two attempts; shorter than the time limit of a call, so that each call sees at least one.
const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(1);
/// Flow-control window of one response, in bytes.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// The same for the whole connection.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// The headers of a call, and its time limit.
pub(crate) type CallOptions = (Arc<HeaderMap>, Duration);

/// One procedure of the service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Procedure(pub(crate) &'static str);

/// The connection to one server.
pub(crate) struct Connection {
    /// Endpoints of the same server, at least one.
    addresses: Vec<HostPort>,
    secure: Option<Connector>,
    live: Mutex<Option<Live>>,
    /// Failures to connect so far.
    failures: AtomicU64,
    connecting: tokio::sync::Mutex<Connecting>,
}

/// An established connection that has not failed yet.
#[derive(Clone)]
struct Live {
    number: u64,
    authority: Authority,
    calls: SendRequest<Bytes>,
}

/// The state of the attempts to connect.
#[derive(Default)]
struct Connecting {
    /// Connections made so far.
    made: u64,
    /// Failures since the last connection.
    failures: u32,
    /// Index of the address to try next.
    next: usize,
    /// The earliest instant of the next attempt, and why the last one failed.
    failed: Option<(Instant, Error)>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(crate) fn new(addresses: Vec<HostPort>, secure: Option<Connector>) -> Arc<Self> {
        Arc::new(Self {
            addresses,
            secure,
            live: Mutex::new(None),
            failures: AtomicU64::new(0),
            connecting: tokio::sync::Mutex::default(),
        })
    }

    pub(crate) fn addresses(&self) -> &[HostPort] {
        &self.addresses
    }

    /// Makes a call with one request and one response.
    pub(crate) async fn call<A: Message + Default>(
        self: &Arc<Self>,
        procedure: Procedure,
        (headers, limit): CallOptions,
        request: &impl Message,
    ) -> Result<A, Error> {
        let call = async {
            let (mut responses, _) = self
                .open_call(procedure, &headers, Some(frame(request)))
                .await?;
            let response = responses.next().await?;
            let response =
                response.ok_or_else(|| Error::Malformed("there is no response".to_owned()))?;
            // The trailers carry the status of the call.
            while responses.next().await?.is_some() {}
            Ok(response)
        };
        clock::monotonic::timeout(limit, call)
            .await
            .unwrap_or(Err(Error::Timeout(limit)))
    }

    /// Makes a call with one request and many responses, all of which must arrive within the time limit.
    pub(crate) async fn call_many<A: Message + Default>(
        self: &Arc<Self>,
        procedure: Procedure,
        (headers, limit): CallOptions,
        request: &impl Message,
    ) -> Result<Vec<A>, Error> {
        let call = async {
            let (mut responses, _) = self
                .open_call(procedure, &headers, Some(frame(request)))
                .await?;
            let mut all = Vec::new();
            while let Some(response) = responses.next().await? {
                all.push(response);
            }
            Ok(all)
        };
        clock::monotonic::timeout(limit, call)
            .await
            .unwrap_or(Err(Error::Timeout(limit)))
    }

    /// Opens a call in which both sides may send until one ends it.
    pub(crate) async fn open_stream<A: Message + Default>(
        self: &Arc<Self>,
        procedure: Procedure,
        headers: &HeaderMap,
    ) -> Result<(ResponseStream<A>, RequestStream), Error> {
        let (responses, requests) = self.open_call(procedure, headers, None).await?;
        Ok((responses, RequestStream(requests)))
    }

    /// Opens a call. If the connection turns out to be closed before the call is on it, reconnects once.
    async fn open_call<A: Message + Default>(
        self: &Arc<Self>,
        procedure: Procedure,
        headers: &HeaderMap,
        request: Option<Bytes>,
    ) -> Result<(ResponseStream<A>, SendStream<Bytes>), Error> {
        let live = self.live().await?;
        let number = live.number;
        let opened = self.send_headers(live, procedure, headers).await;
        let (response, mut stream) = if let Ok(opened) = opened {
            opened
        } else {
            self.forget(number);
            let live = self.live().await?;
            self.send_headers(live, procedure, headers).await?
        };
        if let Some(request) = request {
            stream.send_data(request, true)?;
        }
        Ok((ResponseStream::new(response), stream))
    }

    async fn send_headers(
        &self,
        live: Live,
        procedure: Procedure,
        headers: &HeaderMap,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), Error> {
        let scheme = if self.secure.is_some() {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        };
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(live.authority)
            .path_and_query(PathAndQuery::from_static(procedure.0))
            .build()
            .map_err(|error| Error::Invalid(error.to_string()))?;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers.clone();
        let mut calls = live.calls.ready().await?;
        Ok(calls.send_request(request, false)?)
    }

    /// The established connection; connects if there is none.
    async fn live(self: &Arc<Self>) -> Result<Live, Error> {
        if let Some(live) = self.peek() {
            return Ok(live);
        }
        let failures = self.failures.load(Ordering::Relaxed);
        let mut connecting = self.connecting.lock().await;
        // Another call may have connected, or failed to, while this one waited for the lock.
        if let Some(live) = self.peek() {
            return Ok(live);
        }
        if let Some((not_before, error)) = &connecting.failed {
            if self.failures.load(Ordering::Relaxed) != failures {
                return Err(error.clone());
            }
            clock::monotonic::sleep_until(*not_before).await;
        }
        let index = connecting.next % self.addresses.len();
        let Some(address) = self.addresses.get(index) else {
            return Err(Error::Invalid("there is no endpoint".to_owned()));
        };
        // Set first: if this call is dropped while it waits, the next one tries another address.
        connecting.next = index + 1;
        match self.connect(address, connecting.made + 1).await {
            Ok(live) => {
                connecting.next = index;
                connecting.made += 1;
                connecting.failures = 0;
                connecting.failed = None;
                Ok(live)
            }
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                connecting.failures = connecting.failures.saturating_add(1);
                let round = u32::try_from(self.addresses.len()).unwrap_or(u32::MAX);
                // The other addresses are tried at once.
                let wait = wait_after(connecting.failures / std::cmp::max(round, 1));
                connecting.failed = Some((clock::monotonic::now() + wait, error.clone()));
                Err(error)
            }
        }
    }

    fn peek(&self) -> Option<Live> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.clone()
    }

    /// Makes the next call reconnect, unless a newer connection exists already.
    fn forget(&self, number: u64) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if live.as_ref().is_some_and(|live| live.number == number) {
            *live = None;
        }
    }

    /// Drops the connection: the server asked for it, or does not respond.
    pub(crate) fn disconnect(&self) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        *live = None;
    }

    async fn connect(self: &Arc<Self>, address: &HostPort, number: u64) -> Result<Live, Error> {
        let unreachable = |source: io::Error| Error::Unreachable {
            address: address.to_string(),
            source: Arc::new(source),
        };
        let connect = async {
            let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
            stream.set_nodelay(true)?;
            match &self.secure {
                None => self.handshake(stream, address, number).await,
                Some(Connector(connector)) => {
                    let name = ServerName::try_from(address.host.clone())
                        .map_err(|error| io::Error::other(error.to_string()))?;
                    let stream = connector.connect(name, stream).await?;
                    self.handshake(stream, address, number).await
                }
            }
        };
        match clock::monotonic::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(connected) => connected.map_err(unreachable),
            Err(_) => Err(unreachable(io::ErrorKind::TimedOut.into())),
        }
    }

    async fn handshake<T>(
        self: &Arc<Self>,
        stream: T,
        address: &HostPort,
        number: u64,
    ) -> io::Result<Live>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (calls, connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .handshake(stream)
            .await
            .map_err(io::Error::other)?;
        let live = Live {
            number,
            authority: Authority::from_maybe_shared(address.to_string())
                .map_err(io::Error::other)?,
            calls,
        };
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = Some(live.clone());
        let owner = Arc::downgrade(self);
        // Ends with the connection: when the server closes it, or when no call holds it.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "lose connection");
            }
            if let Some(owner) = owner.upgrade() {
                owner.forget(number);
            }
        });
        Ok(live)
    }
}

fn wait_after(rounds: u32) -> Duration {
    if rounds == 0 {
        return Duration::ZERO;
    }
    let doubled = RECONNECT_WAIT.saturating_mul(1 << std::cmp::min(rounds - 1, 16));
    std::cmp::min(doubled, RECONNECT_WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_once_all_addresses_were_tried() {
        let waits: Vec<_> = (0..8)
            .map(|rounds| wait_after(rounds).as_millis())
            .collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1_000, 1_000, 1_000]);
        assert_eq!(wait_after(u32::MAX), RECONNECT_WAIT_MAX);
    }

    #[tokio::test]
    async fn every_address_is_tried_and_failures_are_reported() {
        // A port that was free a moment ago, with no listener.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let free = listener.local_addr().unwrap();
        drop(listener);
        let address = HostPort {
            host: "127.0.0.1".to_owned(),
            port: free.port(),
        };
        let connection = Connection::new(vec![address.clone(), address], None);
        for expected in [1, 0] {
            assert!(matches!(
                connection.live().await,
                Err(Error::Unreachable { .. })
            ));
            assert_eq!(connection.connecting.lock().await.next % 2, expected);
        }
        assert!(connection.connecting.lock().await.failed.is_some());
    }
}
