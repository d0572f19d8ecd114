//! Accepts connections for every front end: bounds their number, tells TLS from clear text, ends those that are idle.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use clock::Clock;
use clock::monotonic::timeout;
use http_body::{Body, Frame, SizeHint};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::tls::{Spoken, Tls};

/// How long to wait before accepting again when the process has no file handle left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The first byte of a TLS connection: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// Why a connection ended early.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What each front end allows those who connect.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most connections; further ones wait to be accepted.
    pub connections_max: usize,
    /// How long a new connection may take to say its first byte, and again for the TLS handshake.
    pub handshake: Duration,
    /// A connection without a call under way is closed after this, or at twice this at the latest.
    pub idle: Duration,
    /// How long calls under way may go on after the front end was told to stop.
    pub drain: Duration,
}

/// What speaks a protocol on connections that were accepted.
pub trait Speak: Clone + Send + Sync + 'static {
    /// The name of the protocol, for the log.
    const NAME: &'static str;
    /// What TLS offers to speak inside.
    const SPOKEN: Spoken;

    /// Speaks on one connection; each of its calls is noted in `activity` for as long as it is under way.
    fn connection<I>(
        &self,
        io: TokioIo<I>,
        peer: SocketAddr,
        activity: Arc<Activity>,
    ) -> impl GracefulConnection<Error: Into<Failure>> + Send
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static;
}

/// A front end: what it speaks, with whom, and for how long.
pub struct Entrance<S> {
    /// What it speaks.
    pub front: S,
    /// What it allows.
    pub bounds: Bounds,
    /// TLS beside clear text, if it is offered.
    pub tls: Option<Tls>,
    /// Tells when it is time to look at the certificate again.
    pub clock: Arc<dyn Clock>,
    /// Whether it has been told to stop.
    pub stopping: watch::Receiver<bool>,
}

impl<S: Speak> Entrance<S> {
    /// Accepts connections until `stop` ends; gives back those that are still served.
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
                    let guest = Guest {
                        front: self.front.clone(),
                        bounds: self.bounds,
                        stopping: self.stopping.clone(),
                        peer,
                    };
                    let acceptor = self
                        .tls
                        .as_ref()
                        .map(|tls| tls.acceptor(S::SPOKEN, self.clock.now_ms()));
                    connections.spawn(guest.attend(stream, acceptor, place));
                }
                Err(error) => {
                    let protocol = S::NAME;
                    tracing::warn!(protocol, %error, "accept a connection");
                    clock::monotonic::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Waits for those who are still served, as long as they may take; whoever has not ended then is cut off.
    pub async fn drain(&self, mut connections: JoinSet<()>) {
        let drained = async { while connections.join_next().await.is_some() {} };
        if timeout(self.bounds.drain, drained).await.is_err() {
            let protocol = S::NAME;
            tracing::warn!(protocol, "stop with calls still under way");
        }
    }
}

/// Accepts one connection, once there is a place for it.
async fn accept_one(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // Answers are small and written whole: waiting to fill a packet only delays them. It fails for a peer that
    // has gone already, which serving the connection will find out.
    let _ = stream.set_nodelay(true);
    Ok((stream, peer, place))
}

/// Somebody who has connected.
struct Guest<S> {
    front: S,
    bounds: Bounds,
    stopping: watch::Receiver<bool>,
    peer: SocketAddr,
}

impl<S: Speak> Guest<S> {
    /// Serves a connection to its end; its place is free then.
    async fn attend(
        self,
        stream: TcpStream,
        acceptor: Option<TlsAcceptor>,
        place: OwnedSemaphorePermit,
    ) {
        let (peer, protocol) = (self.peer, S::NAME);
        if let Err(error) = self.serve(stream, acceptor).await {
            tracing::debug!(%peer, protocol, error = &*error, "serve a connection");
        }
        drop(place);
    }

    async fn serve(self, stream: TcpStream, acceptor: Option<TlsAcceptor>) -> Result<(), Failure> {
        let patience = self.bounds.handshake;
        let mut first = [0];
        let waited = timeout(patience, stream.peek(&mut first)).await?;
        if waited? == 0 {
            return Ok(());
        }
        match acceptor {
            Some(acceptor) if first == [TLS_HANDSHAKE] => {
                let stream = timeout(patience, acceptor.accept(stream)).await??;
                Box::pin(self.speak(TokioIo::new(stream))).await
            }
            _ => Box::pin(self.speak(TokioIo::new(stream))).await,
        }
    }

    /// Speaks until the other end leaves, is idle for too long, or the front end stops.
    async fn speak<I>(mut self, io: TokioIo<I>) -> Result<(), Failure>
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let activity = Arc::new(Activity::default());
        let connection = self.front.connection(io, self.peer, Arc::clone(&activity));
        let mut connection = std::pin::pin!(connection);
        // How many calls there were when it was last found at rest.
        let mut at_rest = Some(0);
        let grace = loop {
            tokio::select! {
                ended = connection.as_mut() => return ended.map_err(Into::into),
                // An error means that the front end is gone: time to end too.
                _ = self.stopping.wait_for(|stopping| *stopping) => break self.bounds.drain,
                () = clock::monotonic::sleep(self.bounds.idle) => {
                    let now = activity.at_rest();
                    if now.is_some() && now == at_rest {
                        break self.bounds.handshake;
                    }
                    at_rest = now;
                }
            }
        };
        connection.as_mut().graceful_shutdown();
        // One that does not go within this time is cut off.
        timeout(grace, connection).await?.map_err(Into::into)
    }
}

/// What one connection does, to tell when it has been idle.
#[derive(Debug, Default)]
pub struct Activity {
    calls: AtomicUsize,
    begun: AtomicU64,
}

impl Activity {
    /// Notes a call for as long as what this returns is kept.
    pub fn begin(self: &Arc<Self>) -> UnderWay {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// How many calls were ever begun, if none is under way.
    fn at_rest(&self) -> Option<u64> {
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
    fn a_connection_rests_when_its_calls_have_ended() {
        let activity = Arc::new(Activity::default());
        assert_eq!(activity.at_rest(), Some(0));
        let call = activity.begin();
        assert_eq!(activity.at_rest(), None);
        drop(call);
        assert_eq!(activity.at_rest(), Some(1));
    }
}
