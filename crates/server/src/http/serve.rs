//! Speaks HTTP/1.1 and HTTP/2 on accepted connections, and bounds what each of them may hold.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::ServiceExt as _;

use super::limits::HttpLimits;
use edge::accept::{Activity, AnswerBody, Bounds, Failure, Speak, UnderWay};
use edge::tls::Spoken;

/// The JSON API, as those who connect see it.
#[derive(Clone)]
pub(super) struct Front {
    builder: Arc<Builder<TokioExecutor>>,
    router: Router,
}

impl Front {
    pub(super) fn new(limits: &HttpLimits, router: Router) -> Self {
        Self {
            builder: Arc::new(builder(limits)),
            router,
        }
    }
}

impl Speak for Front {
    const NAME: &'static str = "HTTP";
    const SPOKEN: Spoken = Spoken::Http;

    fn connection<I>(
        &self,
        io: TokioIo<I>,
        peer: SocketAddr,
        activity: Arc<Activity>,
    ) -> impl GracefulConnection<Error: Into<Failure>> + Send
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let router = self.router.clone();
        let service =
            service_fn(move |request| answer(router.clone(), request, peer, activity.begin()));
        self.builder.serve_connection(io, service)
    }
}

impl From<&HttpLimits> for Bounds {
    fn from(limits: &HttpLimits) -> Self {
        Self {
            connections_max: limits.connections_max,
            handshake: limits.handshake,
            idle: limits.idle,
            drain: limits.drain,
        }
    }
}

fn builder(limits: &HttpLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // A connection that sends its headers drop by drop is closed.
        .header_read_timeout(limits.headers)
        .max_headers(limits.headers_max)
        // Headers have to fit in here; bodies pass through it.
        .max_buf_size(limits.header_bytes_max);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.headers)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits.streams_max);
    builder
}

async fn answer(
    router: Router,
    request: Request<Incoming>,
    peer: SocketAddr,
    under_way: UnderWay,
) -> Result<http::Response<AnswerBody<Body>>, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    let answered = router.oneshot(request).await;
    answered.map(|answer| answer.map(|body| AnswerBody::new(body, under_way)))
}
