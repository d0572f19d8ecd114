//! Serves HTTP/1.1 and HTTP/2 on accepted connections, and limits the resources of each.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use clock::Clock;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower::ServiceExt as _;

use crate::accept::{Activity, AnswerBody, Bounds, Failure, Listener, Peer, Protocol, UnderWay};
use crate::budget::Connection;
use crate::envelope::PROBES;
use crate::problem::PROBLEM_JSON;
use crate::tls::{Spoken, Tls};

/// The limits of an HTTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// The limits of its connections.
    pub bounds: Bounds,
    /// Most calls of one HTTP/2 connection at a time.
    pub streams_max: u32,
    /// Most headers of one HTTP/1.1 request.
    pub headers_max: usize,
    /// Most bytes of the headers of one request; 8 KiB at least.
    pub header_bytes_max: usize,
    /// How long the headers of a request may take.
    pub headers: Duration,
    /// How long a request may take, its body included, before it is answered with an error.
    pub request: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            bounds: Bounds {
                idle: Duration::from_mins(1),
                ..Bounds::default()
            },
            streams_max: 256,
            headers_max: 64,
            header_bytes_max: 32 * 1024,
            headers: Duration::from_secs(30),
            request: Duration::from_secs(90),
        }
    }
}

/// An HTTP server that is ready to run.
#[derive(Debug)]
pub struct HttpServer {
    /// The router that answers the requests.
    pub router: Router,
    /// Its limits.
    pub limits: HttpLimits,
    /// TLS beside clear text, if it is offered.
    pub tls: Option<Tls>,
    /// Says when to check the certificate for changes.
    pub clock: Arc<dyn Clock>,
    /// Set to true when the server stops.
    pub stopping: watch::Sender<bool>,
}

impl HttpServer {
    /// Serves `listener` until `shutdown` ends; requests under way then get the drain limit to end. With TLS both
    /// clear text
    /// and TLS are spoken; the first byte of a connection decides.
    pub async fn run(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let server = Listener {
            protocol: Http {
                builder: Arc::new(builder(&self.limits)),
                router: self.router,
            },
            bounds: self.limits.bounds,
            tls: self.tls,
            clock: self.clock,
            stopping: self.stopping.subscribe(),
        };
        let connections = server.accept(&listener, shutdown).await;
        drop(listener);
        self.stopping.send_replace(true);
        server.drain(connections).await;
    }
}

/// HTTP, served by a router.
#[derive(Clone)]
struct Http {
    builder: Arc<Builder<TokioExecutor>>,
    router: Router,
}

impl Protocol for Http {
    const NAME: &'static str = "HTTP";
    const SPOKEN: Spoken = Spoken::Http;

    fn connection<I>(
        &self,
        io: TokioIo<I>,
        peer: Peer,
        activity: Arc<Activity>,
    ) -> impl GracefulConnection<Error: Into<Failure>> + Send
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let router = self.router.clone();
        let connection = Arc::new(Connection::default());
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Arc::clone(&connection));
            answer(router.clone(), request, peer, activity.begin())
        });
        self.builder.serve_connection(io, service)
    }
}

fn builder(limits: &HttpLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // A connection that sends its headers byte by byte is closed.
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

/// Refuses a request in clear text.
fn without_tls() -> http::Response<Body> {
    let problem = serde_json::json!({
        "type": "about:blank",
        "title": "TLS is required",
        "status": 400,
        "detail": "the server answers nothing in clear text (tls.required): call https://",
    });
    let mut response = http::Response::new(Body::from(problem.to_string()));
    *response.status_mut() = http::StatusCode::BAD_REQUEST;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    response
}

async fn answer(
    router: Router,
    mut request: Request<Body>,
    peer: Peer,
    under_way: UnderWay,
) -> Result<http::Response<AnswerBody<Body>>, Infallible> {
    if peer.lacks_tls && !PROBES.contains(&request.uri().path()) {
        return Ok(without_tls().map(|body| AnswerBody::new(body, under_way)));
    }
    request.extensions_mut().insert(ConnectInfo(peer.address));
    request.extensions_mut().insert(peer.transport);
    let answered = router.oneshot(request).await;
    answered.map(|answer| answer.map(|body| AnswerBody::new(body, under_way)))
}
