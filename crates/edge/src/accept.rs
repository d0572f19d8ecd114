//! Accepts connections: limits their number, distinguishes TLS from clear text by the first byte, closes idle ones.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use clock::Clock;
use clock::monotonic::{sleep, timeout};
use http_body::{Body, Frame, SizeHint};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::caller::Transport;
use crate::tls::{Spoken, Tls};

/// How long to wait before accepting again when the process has no file handle left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The first byte of a TLS connection: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// Why a connection ended early.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The limits of the connections of one front end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most connections; further ones wait to be accepted.
    pub connections_max: usize,
    /// How long a new connection may take to send its first byte, and again for the TLS handshake.
    pub handshake: Duration,
    /// A connection without a call under way is closed after this, or at twice this at the latest.
    pub idle: Duration,
    /// How long calls may go on after the front end has begun to stop.
    pub drain: Duration,
}

impl Default for Bounds {
    /// 8,192 connections, 10 s for a handshake, 3 min idle, 5 s to end.
    fn default() -> Self {
        Self {
            connections_max: 8_192,
            handshake: Duration::from_secs(10),
            idle: Duration::from_mins(3),
            drain: Duration::from_secs(5),
        }
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// What carries the connection.
    pub transport: Transport,
    /// Whether its calls are refused: it is in clear text, and TLS is required.
    pub lacks_tls: bool,
}

/// A protocol that is spoken on accepted connections.
pub trait Protocol: Clone + Send + Sync + 'static {
    /// The name of the protocol, for the log.
    const NAME: &'static str;
    /// What the TLS handshake offers.
    const SPOKEN: Spoken;

    /// Serves one connection; each of its calls is counted in `activity` while it is under way.
    fn connection<I>(
        &self,
        io: TokioIo<I>,
        peer: Peer,
        activity: Arc<Activity>,
    ) -> impl GracefulConnection<Error: Into<Failure>> + Send
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static;
}

/// A front end that accepts connections.
#[derive(Debug)]
pub struct Listener<P> {
    /// The protocol it speaks.
    pub protocol: P,
    /// The limits of its connections.
    pub bounds: Bounds,
    /// TLS beside clear text, if it is offered.
    pub tls: Option<Tls>,
    /// Says when to check the certificate for changes.
    pub clock: Arc<dyn Clock>,
    /// Whether it is to stop.
    pub stopping: watch::Receiver<bool>,
}

impl<P: Protocol> Listener<P> {
    /// Accepts connections until `stop` ends; returns those that are still served.
    pub async fn accept(
        &self,
        listener: &TcpListener,
        stop: impl Future<Output = ()>,
    ) -> JoinSet<()> {
        let mut stop = std::pin::pin!(stop);
        let places = Arc::new(Semaphore::new(self.bounds.connections_max));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = &mut stop => return connections,
                // Takes the ended ones out, so that the set does not grow.
                Some(_) = connections.join_next() => continue,
                accepted = accept_one(listener, &places) => accepted,
            };
            match accepted {
                Ok((stream, peer, place)) => {
                    let connection = Connection {
                        protocol: self.protocol.clone(),
                        bounds: self.bounds,
                        stopping: self.stopping.clone(),
                        peer,
                        requires_tls: self.tls.as_ref().is_some_and(Tls::is_required),
                    };
                    let acceptor = self
                        .tls
                        .as_ref()
                        .map(|tls| tls.acceptor(P::SPOKEN, self.clock.now_ms()));
                    connections.spawn(connection.run(stream, acceptor, place));
                }
                Err(error) => {
                    let protocol = P::NAME;
                    tracing::warn!(protocol, %error, "accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Waits up to the drain limit for open connections, then closes the rest.
    pub async fn drain(&self, mut connections: JoinSet<()>) {
        let drained = async { while connections.join_next().await.is_some() {} };
        if timeout(self.bounds.drain, drained).await.is_err() {
            let protocol = P::NAME;
            tracing::warn!(protocol, "stop with calls still under way");
        }
    }
}

/// Accepts one connection, once the number of open ones allows it.
async fn accept_one(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // Answers are small and written whole: waiting to fill a packet only delays them. The call fails for a peer that
    // has gone already, which serving the connection will find out.
    let _ = stream.set_nodelay(true);
    Ok((stream, peer, place))
}

/// A connection that was accepted.
struct Connection<P> {
    protocol: P,
    bounds: Bounds,
    stopping: watch::Receiver<bool>,
    peer: SocketAddr,
    requires_tls: bool,
}

impl<P: Protocol> Connection<P> {
    /// Serves the connection to its end, which frees its place.
    async fn run(
        self,
        stream: TcpStream,
        acceptor: Option<TlsAcceptor>,
        place: OwnedSemaphorePermit,
    ) {
        let (peer, protocol) = (self.peer, P::NAME);
        if let Err(error) = self.serve(stream, acceptor).await {
            tracing::debug!(%peer, protocol, error = &*error, "serve a connection");
        }
        drop(place);
    }

    async fn serve(self, stream: TcpStream, acceptor: Option<TlsAcceptor>) -> Result<(), Failure> {
        let limit = self.bounds.handshake;
        let mut first = [0];
        let waited = timeout(limit, stream.peek(&mut first)).await?;
        if waited? == 0 {
            return Ok(());
        }
        match acceptor {
            Some(acceptor) if first == [TLS_HANDSHAKE] => {
                let stream = timeout(limit, acceptor.accept(stream)).await??;
                Box::pin(self.speak(TokioIo::new(stream), Transport::Tls)).await
            }
            _ => Box::pin(self.speak(TokioIo::new(stream), Transport::Clear)).await,
        }
    }

    /// Speaks the protocol until the peer disconnects, is idle for too long, or the front end stops.
    async fn speak<I>(mut self, io: TokioIo<I>, transport: Transport) -> Result<(), Failure>
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let activity = Arc::new(Activity::default());
        let peer = Peer {
            address: self.peer,
            transport,
            lacks_tls: self.requires_tls && transport == Transport::Clear,
        };
        let connection = self.protocol.connection(io, peer, Arc::clone(&activity));
        let mut connection = std::pin::pin!(connection);
        // The number of calls when the connection was last found idle.
        let mut idle_since_calls = Some(0);
        let grace = loop {
            tokio::select! {
                ended = connection.as_mut() => return ended.map_err(Into::into),
                // An error means that the front end was dropped, which ends the connection too.
                _ = self.stopping.wait_for(|stopping| *stopping) => break self.bounds.drain,
                () = sleep(self.bounds.idle) => {
                    let now = activity.idle_since_calls();
                    if now.is_some() && now == idle_since_calls {
                        break self.bounds.handshake;
                    }
                    idle_since_calls = now;
                }
            }
        };
        connection.as_mut().graceful_shutdown();
        // A connection that does not end within this time is closed.
        timeout(grace, connection).await?.map_err(Into::into)
    }
}

/// Counts the calls of one connection, to find out when it is idle.
#[derive(Debug, Default)]
pub struct Activity {
    calls: AtomicUsize,
    begun: AtomicU64,
}

impl Activity {
    /// Counts a call until the returned value is dropped.
    pub fn begin(self: &Arc<Self>) -> UnderWay {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// Returns how many calls have begun since the start, if none is under way.
    fn idle_since_calls(&self) -> Option<u64> {
        (self.calls.load(Ordering::Relaxed) == 0).then(|| self.begun.load(Ordering::Relaxed))
    }
}

/// A call of a connection.
#[derive(Debug)]
pub struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer; its call is under way until it has been written.
#[derive(Debug)]
pub struct AnswerBody<B> {
    inner: B,
    _under_way: UnderWay,
}

impl<B> AnswerBody<B> {
    /// Wraps `inner`.
    pub fn new(inner: B, under_way: UnderWay) -> Self {
        Self {
            inner,
            _under_way: under_way,
        }
    }
}

impl<B: Body + Unpin> Body for AnswerBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_when_its_calls_have_ended() {
        let activity = Arc::new(Activity::default());
        assert_eq!(activity.idle_since_calls(), Some(0));
        let call = activity.begin();
        assert_eq!(activity.idle_since_calls(), None);
        drop(call);
        assert_eq!(activity.idle_since_calls(), Some(1));
    }
}
