//! Carries calls to one server over an HTTP/2 connection that is made again when it breaks.
//!
//! A call is written straight to the `h2` connection: no queue, no task and no wake-up lies in between, which a
//! client that sends tens of thousands of small messages a second notices.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::config::HostPort;
use crate::error::Error;
use crate::framing::{Inbox, frame, unescape};
use crate::tls::Connector;

/// How long making a connection may take, TLS included.
const DIAL_TIME: Duration = Duration::from_secs(2);
/// Wait after the first failure to connect; each further failure doubles it.
const DIAL_WAIT: Duration = Duration::from_millis(100);
/// Longest wait between two tries; shorter than a call may take, so that a call sees at least one try.
const DIAL_WAIT_MAX: Duration = Duration::from_secs(1);
/// Bytes of one answer that may be on the way before they are read.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// The same for the whole connection.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// The headers of a call, and how long it may take.
pub(crate) type Terms = (Arc<HeaderMap>, Duration);

/// One procedure of the service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Procedure(pub(crate) &'static str);

/// The way to one server.
pub(crate) struct Line {
    /// Doors of the same server, at least one.
    addresses: Vec<HostPort>,
    secure: Option<Connector>,
    live: Mutex<Option<Live>>,
    /// Failures to connect so far.
    failures: AtomicU64,
    dialling: tokio::sync::Mutex<Dialling>,
}

/// A connection that works as far as is known.
#[derive(Clone)]
struct Live {
    number: u64,
    authority: Authority,
    calls: SendRequest<Bytes>,
}

/// What is known of the tries to connect.
#[derive(Default)]
struct Dialling {
    /// Connections made so far.
    made: u64,
    /// Failures since the last connection.
    failures: u32,
    /// Which address comes next.
    next: usize,
    /// Not to be tried before; and why the last try failed.
    failed: Option<(Instant, Error)>,
}

impl fmt::Debug for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Line")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Line {
    pub(crate) fn new(addresses: Vec<HostPort>, secure: Option<Connector>) -> Arc<Self> {
        Arc::new(Self {
            addresses,
            secure,
            live: Mutex::new(None),
            failures: AtomicU64::new(0),
            dialling: tokio::sync::Mutex::default(),
        })
    }

    pub(crate) fn addresses(&self) -> &[HostPort] {
        &self.addresses
    }

    /// A call with one request and one answer.
    pub(crate) async fn call<A: Message + Default>(
        self: &Arc<Self>,
        procedure: Procedure,
        (headers, limit): Terms,
        request: &impl Message,
    ) -> Result<A, Error> {
        let call = async {
            let (mut answers, _) = self
                .begin(procedure, &headers, Some(frame(request)))
                .await?;
            let answer = answers.next().await?;
            let answer = answer.ok_or_else(|| Error::Malformed("there is no answer".to_owned()))?;
            // What comes behind says whether the call went well.
            while answers.next().await?.is_some() {}
            Ok(answer)
        };
        tokio::time::timeout(limit, call)
            .await
            .unwrap_or(Err(Error::Timeout(limit)))
    }

    /// A call with one request and many answers, all of which come within the limit.
    pub(crate) async fn call_many<A: Message + Default>(
        self: &Arc<Self>,
        procedure: Procedure,
        (headers, limit): Terms,
        request: &impl Message,
    ) -> Result<Vec<A>, Error> {
        let call = async {
            let (mut answers, _) = self
                .begin(procedure, &headers, Some(frame(request)))
                .await?;
            let mut all = Vec::new();
            while let Some(answer) = answers.next().await? {
                all.push(answer);
            }
            Ok(all)
        };
        tokio::time::timeout(limit, call)
            .await
            .unwrap_or(Err(Error::Timeout(limit)))
    }

    /// A call both sides of which go on until one ends it.
    pub(crate) async fn converse<A: Message + Default>(
        self: &Arc<Self>,
        procedure: Procedure,
        headers: &HeaderMap,
    ) -> Result<(Answers<A>, Speech), Error> {
        let (answers, speech) = self.begin(procedure, headers, None).await?;
        Ok((answers, Speech(speech)))
    }

    /// Opens a call. A connection that turns out to have ended before the call was on it is made again once.
    async fn begin<A: Message + Default>(
        self: &Arc<Self>,
        procedure: Procedure,
        headers: &HeaderMap,
        whole: Option<Bytes>,
    ) -> Result<(Answers<A>, SendStream<Bytes>), Error> {
        let live = self.live().await?;
        let number = live.number;
        let opened = self.open(live, procedure, headers).await;
        let (response, mut stream) = if let Ok(opened) = opened {
            opened
        } else {
            self.forget(number);
            let live = self.live().await?;
            self.open(live, procedure, headers).await?
        };
        if let Some(whole) = whole {
            stream.send_data(whole, true)?;
        }
        let answers = Answers {
            state: State::Waiting(response),
            inbox: Inbox::default(),
            kind: PhantomData,
        };
        Ok((answers, stream))
    }

    async fn open(
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

    /// The connection, made if there is none.
    async fn live(self: &Arc<Self>) -> Result<Live, Error> {
        if let Some(live) = self.peek() {
            return Ok(live);
        }
        let failures = self.failures.load(Ordering::Relaxed);
        let mut dialling = self.dialling.lock().await;
        // Somebody else may have made it, or failed, while this call waited for its turn.
        if let Some(live) = self.peek() {
            return Ok(live);
        }
        if let Some((not_before, error)) = &dialling.failed {
            if self.failures.load(Ordering::Relaxed) != failures {
                return Err(error.clone());
            }
            tokio::time::sleep_until(*not_before).await;
        }
        let index = dialling.next % self.addresses.len();
        let Some(address) = self.addresses.get(index) else {
            return Err(Error::Invalid("there is no endpoint".to_owned()));
        };
        // Also if this call is dropped meanwhile, the next one shall not meet the same silence.
        dialling.next = index + 1;
        match self.dial(address, dialling.made + 1).await {
            Ok(live) => {
                dialling.next = index;
                dialling.made += 1;
                dialling.failures = 0;
                dialling.failed = None;
                Ok(live)
            }
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                dialling.failures = dialling.failures.saturating_add(1);
                let round = u32::try_from(self.addresses.len()).unwrap_or(u32::MAX);
                // The other doors are tried at once.
                let wait = wait_after(dialling.failures / std::cmp::max(round, 1));
                dialling.failed = Some((Instant::now() + wait, error.clone()));
                Err(error)
            }
        }
    }

    fn peek(&self) -> Option<Live> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.clone()
    }

    /// Makes the next call connect anew, unless a newer connection is there already.
    fn forget(&self, number: u64) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if live.as_ref().is_some_and(|live| live.number == number) {
            *live = None;
        }
    }

    /// Drops the connection: the server asks for it, or does not answer.
    pub(crate) fn hang_up(&self) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        *live = None;
    }

    async fn dial(self: &Arc<Self>, address: &HostPort, number: u64) -> Result<Live, Error> {
        let unreachable = |source: io::Error| Error::Unreachable {
            address: address.to_string(),
            source: Arc::new(source),
        };
        let dial = async {
            let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
            stream.set_nodelay(true)?;
            match &self.secure {
                None => self.shake_hands(stream, address, number).await,
                Some(Connector(connector)) => {
                    let name = ServerName::try_from(address.host.clone())
                        .map_err(|error| io::Error::other(error.to_string()))?;
                    let stream = connector.connect(name, stream).await?;
                    self.shake_hands(stream, address, number).await
                }
            }
        };
        match tokio::time::timeout(DIAL_TIME, dial).await {
            Ok(dialled) => dialled.map_err(unreachable),
            Err(_) => Err(unreachable(io::ErrorKind::TimedOut.into())),
        }
    }

    async fn shake_hands<T>(
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
        // Ends by itself when the connection does: when the other side closes it, or nobody holds a call on it.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "lose connection");
            }
            if let Some(line) = owner.upgrade() {
                line.forget(number);
            }
        });
        Ok(live)
    }
}

fn wait_after(rounds: u32) -> Duration {
    if rounds == 0 {
        return Duration::ZERO;
    }
    let doubled = DIAL_WAIT.saturating_mul(1 << std::cmp::min(rounds - 1, 16));
    std::cmp::min(doubled, DIAL_WAIT_MAX)
}

/// What a client says on a call that goes on.
#[derive(Debug)]
pub(crate) struct Speech(SendStream<Bytes>);

impl Speech {
    pub(crate) fn say(&mut self, message: &impl Message) -> Result<(), Error> {
        Ok(self.0.send_data(frame(message), false)?)
    }
}

/// The answers of one call. Dropped before the last, it breaks the call off.
#[derive(Debug)]
pub(crate) struct Answers<A> {
    state: State,
    inbox: Inbox,
    kind: PhantomData<fn() -> A>,
}

#[derive(Debug)]
enum State {
    Waiting(ResponseFuture),
    Reading(RecvStream),
    Ended,
}

impl<A: Message + Default> Answers<A> {
    /// The next answer; `None` once the call has ended well. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Result<Option<A>, Error> {
        loop {
            match &mut self.state {
                State::Ended => return Ok(None),
                State::Waiting(response) => {
                    let (head, body) = response.await?.into_parts();
                    if head.status != http::StatusCode::OK {
                        return Err(Error::Malformed(format!("HTTP status {}", head.status)));
                    }
                    // A call that failed at once says so here and has no body.
                    if head.headers.contains_key("grpc-status") {
                        self.state = State::Ended;
                        well(&head.headers)?;
                        return Ok(None);
                    }
                    self.state = State::Reading(body);
                }
                State::Reading(body) => {
                    if let Some(answer) = self.inbox.take()? {
                        return Ok(Some(answer));
                    }
                    if let Some(chunk) = body.data().await {
                        let chunk = chunk?;
                        body.flow_control().release_capacity(chunk.len())?;
                        self.inbox.push(chunk);
                        continue;
                    }
                    let trailers = body.trailers().await?.unwrap_or_default();
                    self.state = State::Ended;
                    well(&trailers)?;
                    if !self.inbox.is_empty() {
                        return Err(Error::Malformed("it ends too early".to_owned()));
                    }
                    return Ok(None);
                }
            }
        }
    }
}

/// Whether a call went well, by what stands at its end.
fn well(trailers: &HeaderMap) -> Result<(), Error> {
    let text = |name| {
        let value = trailers.get(name);
        value.and_then(|value: &HeaderValue| value.to_str().ok())
    };
    match text("grpc-status").map(str::parse) {
        Some(Ok(0)) => Ok(()),
        Some(Ok(status)) => Err(Error::Call {
            status,
            message: unescape(text("grpc-message").unwrap_or_default()),
        }),
        _ => Err(Error::Call {
            status: 2,
            message: "the call ended without a status".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_once_all_doors_were_tried() {
        let waits: Vec<_> = (0..8)
            .map(|rounds| wait_after(rounds).as_millis())
            .collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1_000, 1_000, 1_000]);
        assert_eq!(wait_after(u32::MAX), DIAL_WAIT_MAX);
    }

    #[test]
    fn the_end_of_a_call_says_how_it_went() {
        let trailers = |pairs: &[(&'static str, &str)]| {
            let pairs = pairs.iter();
            pairs
                .map(|(name, value)| {
                    let value = HeaderValue::from_str(value).unwrap();
                    (http::HeaderName::from_static(name), value)
                })
                .collect::<HeaderMap>()
        };
        assert!(well(&trailers(&[("grpc-status", "0")])).is_ok());
        let error = well(&trailers(&[
            ("grpc-status", "14"),
            ("grpc-message", "a%20b"),
        ]));
        assert!(matches!(error, Err(Error::Call { status: 14, message }) if message == "a b"));
        assert!(well(&HeaderMap::new()).is_err());
    }

    #[tokio::test]
    async fn every_door_is_tried_and_failures_are_told() {
        // A port that was free a moment ago, and to which nobody listens.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let free = listener.local_addr().unwrap();
        drop(listener);
        let address = HostPort {
            host: "127.0.0.1".to_owned(),
            port: free.port(),
        };
        let line = Line::new(vec![address.clone(), address], None);
        for expected in [1, 0] {
            assert!(matches!(line.live().await, Err(Error::Unreachable { .. })));
            assert_eq!(line.dialling.lock().await.next % 2, expected);
        }
        assert!(line.dialling.lock().await.failed.is_some());
    }
}
