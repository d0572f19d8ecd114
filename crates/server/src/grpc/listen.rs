//! Serves gRPC on accepted connections, and limits the resources of each.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use broker::clock::monotonic::timeout;
use grpc_api::v2::messaging_service_server::MessagingServiceServer;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Shared;
use super::body::RequestBody;
use super::connection::Connection;
use super::limits::{
    CONNECTION_WINDOW_BYTES, GrpcLimits, PING_EVERY, PING_TIMEOUT, RESETS_PENDING_MAX,
    SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES,
};
use super::service::Service;
use edge::accept::{Activity, AnswerBody, Failure, Peer, Protocol};
use edge::tls::Spoken;

/// The call that lasts as long as its client is connected.
const TELEMETRY: &str = "/Telemetry";

/// The gRPC front end, as a protocol of the accept loop.
#[derive(Clone, Debug)]
pub(crate) struct Front(pub(crate) Arc<Shared>);

impl Protocol for Front {
    const NAME: &'static str = "gRPC";
    const SPOKEN: Spoken = Spoken::Http2;

    fn connection<I>(
        &self,
        io: TokioIo<I>,
        peer: Peer,
        activity: Arc<Activity>,
    ) -> impl GracefulConnection<Error: Into<Failure>> + Send
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = Calls {
            shared: Arc::clone(&self.0),
            connection: Arc::new(Connection::new(peer.address)),
            lacks_tls: peer.lacks_tls,
            activity,
        };
        builder(&self.0.config.limits).serve_connection(io, service)
    }
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

/// The service of one connection: applies the limits to each call.
#[derive(Clone, Debug)]
struct Calls {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    lacks_tls: bool,
    activity: Arc<Activity>,
}

type Answering = Pin<
    Box<
        dyn Future<Output = Result<http::Response<AnswerBody<tonic::body::Body>>, Infallible>>
            + Send,
    >,
>;

impl hyper::service::Service<Request<Incoming>> for Calls {
    type Response = http::Response<AnswerBody<tonic::body::Body>>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let under_way = self.activity.begin();
        let shared = Arc::clone(&self.shared);
        let connection = Arc::clone(&self.connection);
        if self.lacks_tls {
            let refusal = "the server answers nothing in clear text (tls.required): use TLS";
            let answer = tonic::Status::failed_precondition(refusal).into_http();
            let answer = answer.map(|body| AnswerBody::new(body, under_way));
            return Box::pin(std::future::ready(Ok(answer)));
        }
        Box::pin(async move {
            let limits = &shared.config.limits;
            let largest = limits.request_bytes_max;
            let requests = connection.parts.bodies(&shared.requests, largest);
            let held = Arc::new(requests.hold());
            let lasts = request.uri().path().ends_with(TELEMETRY);
            let mut request = request.map(|body| RequestBody::new(body, Arc::clone(&held)));
            request.extensions_mut().insert(connection);
            request.extensions_mut().insert(Arc::clone(&held));
            let limit = limits.call;
            let mut service =
                MessagingServiceServer::new(Service(shared)).max_decoding_message_size(largest);
            let answer = tower_service::Service::call(&mut service, request);
            let answered = if lasts {
                answer.await
            } else {
                match timeout(limit, answer).await {
                    Ok(answered) => answered,
                    Err(_) => {
                        Ok(tonic::Status::deadline_exceeded("the call took too long").into_http())
                    }
                }
            };
            drop(held);
            answered.map(|answer| answer.map(|body| AnswerBody::new(body, under_way)))
        })
    }
}
