//! Accepts connections: tells TLS from clear text, bounds what each may hold, and ends those that are idle.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use grpc_api::v2::messaging_service_server::MessagingServiceServer;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Shared;
use super::body::{Activity, AnswerBody, RequestBody};
use super::limits::{
    CONNECTION_WINDOW_BYTES, GrpcLimits, PING_EVERY, PING_TIMEOUT, RESETS_PENDING_MAX,
    SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES,
};
use super::peer::Remote;
use super::service::Service;
use crate::tls::Tls;

/// How long to wait before accepting again when the process has no file handle left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The first byte of a TLS connection: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;
/// The one call that lasts as long as its client.
const TELEMETRY: &str = "/Telemetry";

/// Accepts connections until `stop` ends; gives back those that are still served.
pub(crate) async fn accept(
    shared: &Arc<Shared>,
    listener: &TcpListener,
    tls: Option<&Tls>,
    stop: impl Future<Output = ()>,
) -> JoinSet<()> {
    let mut stop = std::pin::pin!(stop);
    let places = Arc::new(Semaphore::new(shared.config.limits.connections_max));
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
                let shared = Arc::clone(shared);
                let acceptor = tls.map(|tls| tls.acceptor(shared.clock().now_ms()));
                connections.spawn(async move {
                    if let Err(error) = serve(&shared, (stream, Remote(peer)), acceptor).await {
                        tracing::debug!(%peer, error = &*error, "serve a gRPC connection");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept a gRPC connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
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

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn serve(
    shared: &Arc<Shared>,
    (stream, remote): (TcpStream, Remote),
    acceptor: Option<tokio_rustls::TlsAcceptor>,
) -> Result<(), Failure> {
    let patience = shared.config.limits.handshake;
    let mut first = [0];
    let waited = timeout(patience, stream.peek(&mut first)).await?;
    if waited? == 0 {
        return Ok(());
    }
    match acceptor {
        Some(acceptor) if first == [TLS_HANDSHAKE] => {
            let stream = timeout(patience, acceptor.accept(stream)).await??;
            Box::pin(speak(shared, remote, TokioIo::new(stream))).await
        }
        _ => Box::pin(speak(shared, remote, TokioIo::new(stream))).await,
    }
}

/// Speaks HTTP/2 until the other end leaves, is idle for too long, or the front end stops.
async fn speak<I>(shared: &Arc<Shared>, remote: Remote, io: I) -> Result<(), Failure>
where
    I: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let limits = &shared.config.limits;
    let activity = Arc::new(Activity::default());
    let door = Door {
        shared: Arc::clone(shared),
        remote,
        activity: Arc::clone(&activity),
    };
    let connection = builder(limits).serve_connection(io, door);
    let mut connection = std::pin::pin!(connection);
    // How many calls there were when it was last found at rest.
    let mut at_rest = Some(0);
    let grace = loop {
        tokio::select! {
            ended = connection.as_mut() => return Ok(ended?),
            () = shared.stopping() => break limits.drain,
            () = tokio::time::sleep(limits.idle) => {
                let now = activity.at_rest();
                if now.is_some() && now == at_rest {
                    break limits.handshake;
                }
                at_rest = now;
            }
        }
    };
    connection.as_mut().graceful_shutdown();
    // One that does not go within this time is cut off.
    Ok(timeout(grace, connection).await??)
}

fn builder(limits: &GrpcLimits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(limits.header_bytes_max)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// What every call of one connection comes through.
#[derive(Clone, Debug)]
struct Door {
    shared: Arc<Shared>,
    remote: Remote,
    activity: Arc<Activity>,
}

type Answering =
    Pin<Box<dyn Future<Output = Result<http::Response<AnswerBody>, Infallible>> + Send>>;

impl hyper::service::Service<Request<Incoming>> for Door {
    type Response = http::Response<AnswerBody>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let under_way = self.activity.begin();
        let shared = Arc::clone(&self.shared);
        let remote = self.remote;
        Box::pin(async move {
            let held = Arc::new(shared.requests.hold());
            let lasts = request.uri().path().ends_with(TELEMETRY);
            let mut request = request.map(|body| RequestBody::new(body, Arc::clone(&held)));
            request.extensions_mut().insert(remote);
            let limit = shared.config.limits.call;
            let bytes_max = shared.config.limits.request_bytes_max;
            let mut service =
                MessagingServiceServer::new(Service(shared)).max_decoding_message_size(bytes_max);
            let answer = tower_service::Service::call(&mut service, request);
            let answered = if lasts {
                answer.await
            } else {
                match timeout(limit, answer).await {
                    Ok(answered) => answered,
                    Err(_) => Ok(tonic::Status::deadline_exceeded(
                        "the call took too long to arrive or to be answered",
                    )
                    .into_http()),
                }
            };
            drop(held);
            answered.map(|answer| answer.map(|body| AnswerBody::new(body, under_way)))
        })
    }
}
