//! Implements the gRPC service: authenticates each call, runs it, reports its outcome.

use std::sync::Arc;

use broker::clock::Stopwatch;
use futures_util::stream;
use grpc_api::v2::messaging_service_server::MessagingService;
use grpc_api::v2::{self, Code, TelemetryCommand};
use tonic::{Request, Response, Status, Streaming};

use super::Shared;
use super::metrics::CallMetrics;
use super::peer::{Dialect, Peer, deadline};
use super::receive::Deliveries;
use super::route::{no_lite, unsupported};
use super::status::Problem;
use super::telemetry::{self, Commands};
use edge::budget::Share;

/// The service of one front end.
#[derive(Clone, Debug)]
pub(crate) struct Service(pub(crate) Arc<Shared>);

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    fn peer<T>(&self, request: &Request<T>) -> Result<Peer, Problem> {
        Peer::of(request, &self.0.access)
    }

    fn begin<T>(&self, method: &'static str, request: &Request<T>) -> Call<'_> {
        Call {
            metrics: &self.0.metrics,
            method,
            dialect: Dialect::of(request.metadata()),
            since: Stopwatch::start(),
        }
    }
}

/// A call under way.
struct Call<'a> {
    metrics: &'a CallMetrics,
    method: &'static str,
    dialect: Dialect,
    since: Stopwatch,
}

impl Call<'_> {
    /// Ends a call: records it, and returns its answer or one with the status of the problem.
    #[expect(
        clippy::unnecessary_wraps,
        reason = "every call of the service ends with it"
    )]
    fn answer<T>(
        self,
        outcome: Result<T, Problem>,
        with_status: impl FnOnce(Option<v2::Status>) -> T,
    ) -> Answer<T> {
        let code = outcome
            .as_ref()
            .map_or_else(|problem| problem.code, |_| Code::Ok);
        self.metrics
            .request(self.method, code, self.since.elapsed());
        let refusal = |problem| with_status(Some(self.dialect.status(problem)));
        Ok(Response::new(outcome.unwrap_or_else(refusal)))
    }
}

#[tonic::async_trait]
impl MessagingService for Service {
    type ReceiveMessageStream = Deliveries;
    type PullMessageStream = stream::Empty<Result<v2::PullMessageResponse, Status>>;
    type TelemetryStream = Commands;

    async fn query_route(
        &self,
        request: Request<v2::QueryRouteRequest>,
    ) -> Answer<v2::QueryRouteResponse> {
        let call = self.begin("QueryRoute", &request);
        let outcome = match self.peer(&request) {
            Ok(peer) => self.0.query_route(&peer, request.into_inner()).await,
            Err(problem) => Err(problem),
        };
        call.answer(outcome, |status| v2::QueryRouteResponse {
            status,
            ..Default::default()
        })
    }

    async fn heartbeat(
        &self,
        request: Request<v2::HeartbeatRequest>,
    ) -> Answer<v2::HeartbeatResponse> {
        let call = self.begin("Heartbeat", &request);
        let outcome = self
            .peer(&request)
            .and_then(|peer| self.0.heartbeat(&peer, request.get_ref()));
        call.answer(outcome, |status| v2::HeartbeatResponse { status })
    }

    async fn send_message(
        &self,
        request: Request<v2::SendMessageRequest>,
    ) -> Answer<v2::SendMessageResponse> {
        let call = self.begin("SendMessage", &request);
        // Each request comes with its share of the budget.
        let held = request.extensions().get::<Arc<Share>>().cloned();
        let held = held.unwrap_or_else(|| Arc::new(self.0.requests.hold()));
        let outcome = match self.peer(&request) {
            Ok(peer) => {
                let request = request.into_inner();
                self.0.send(&peer, call.dialect, request, &held).await
            }
            Err(problem) => Err(problem),
        };
        call.answer(outcome, |status| v2::SendMessageResponse {
            status,
            ..Default::default()
        })
    }

    async fn query_assignment(
        &self,
        request: Request<v2::QueryAssignmentRequest>,
    ) -> Answer<v2::QueryAssignmentResponse> {
        let call = self.begin("QueryAssignment", &request);
        let outcome = match self.peer(&request) {
            Ok(peer) => self.0.query_assignment(&peer, request.into_inner()).await,
            Err(problem) => Err(problem),
        };
        call.answer(outcome, |status| v2::QueryAssignmentResponse {
            status,
            ..Default::default()
        })
    }

    async fn receive_message(
        &self,
        request: Request<v2::ReceiveMessageRequest>,
    ) -> Answer<Deliveries> {
        let call = self.begin("ReceiveMessage", &request);
        let deadline = deadline(request.metadata());
        let outcome = match self.peer(&request) {
            Ok(peer) => self.0.receive(&peer, deadline, request.into_inner()).await,
            Err(problem) => Err(problem),
        };
        call.answer(outcome, |status| {
            Deliveries::of_status(status.unwrap_or_default())
        })
    }

    async fn ack_message(
        &self,
        request: Request<v2::AckMessageRequest>,
    ) -> Answer<v2::AckMessageResponse> {
        let call = self.begin("AckMessage", &request);
        let outcome = match self.peer(&request) {
            Ok(peer) => self.0.ack(&peer, call.dialect, request.into_inner()).await,
            Err(problem) => Err(problem),
        };
        call.answer(outcome, |status| v2::AckMessageResponse {
            status,
            ..Default::default()
        })
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        request: Request<v2::ForwardMessageToDeadLetterQueueRequest>,
    ) -> Answer<v2::ForwardMessageToDeadLetterQueueResponse> {
        let call = self.begin("ForwardMessageToDeadLetterQueue", &request);
        let outcome = match self.peer(&request) {
            Ok(peer) => self.0.dead_letter(&peer, request.into_inner()).await,
            Err(problem) => Err(problem),
        };
        call.answer(outcome, |status| {
            v2::ForwardMessageToDeadLetterQueueResponse { status }
        })
    }

    async fn end_transaction(
        &self,
        request: Request<v2::EndTransactionRequest>,
    ) -> Answer<v2::EndTransactionResponse> {
        let call = self.begin("EndTransaction", &request);
        let outcome = match self.peer(&request) {
            Ok(peer) => self.0.end_transaction(&peer, request.into_inner()).await,
            Err(problem) => Err(problem),
        };
        call.answer(outcome, |status| v2::EndTransactionResponse { status })
    }

    async fn telemetry(
        &self,
        request: Request<Streaming<TelemetryCommand>>,
    ) -> Answer<Self::TelemetryStream> {
        let dialect = Dialect::of(request.metadata());
        let peer = self.peer(&request);
        let peer = peer.and_then(|peer| peer.identified().map(|()| peer));
        // The headers of the answer are sent before anything is read: some clients wait for them.
        Ok(Response::new(match peer {
            Ok(peer) => telemetry::commands(&self.0, (peer, dialect), request.into_inner()),
            Err(problem) => telemetry::refused(dialect, problem),
        }))
    }

    async fn notify_client_termination(
        &self,
        request: Request<v2::NotifyClientTerminationRequest>,
    ) -> Answer<v2::NotifyClientTerminationResponse> {
        let call = self.begin("NotifyClientTermination", &request);
        let outcome = match self.peer(&request) {
            Ok(peer) => self.0.end_client(&peer).await,
            Err(problem) => Err(problem),
        };
        call.answer(outcome, |status| v2::NotifyClientTerminationResponse {
            status,
        })
    }

    async fn change_invisible_duration(
        &self,
        request: Request<v2::ChangeInvisibleDurationRequest>,
    ) -> Answer<v2::ChangeInvisibleDurationResponse> {
        let call = self.begin("ChangeInvisibleDuration", &request);
        // Clients overwrite their handle with the returned one, even if there is none.
        let receipt_handle = request.get_ref().receipt_handle.clone();
        let outcome = match self.peer(&request) {
            Ok(peer) => self.0.change_invisible(&peer, request.into_inner()).await,
            Err(problem) => Err(problem),
        };
        call.answer(outcome, |status| v2::ChangeInvisibleDurationResponse {
            status,
            receipt_handle,
        })
    }

    async fn recall_message(
        &self,
        request: Request<v2::RecallMessageRequest>,
    ) -> Answer<v2::RecallMessageResponse> {
        let call = self.begin("RecallMessage", &request);
        let outcome = match self.peer(&request) {
            Ok(peer) => self.0.recall(&peer, request.into_inner()).await,
            Err(problem) => Err(problem),
        };
        call.answer(outcome, |status| v2::RecallMessageResponse {
            status,
            ..Default::default()
        })
    }

    async fn sync_lite_subscription(
        &self,
        request: Request<v2::SyncLiteSubscriptionRequest>,
    ) -> Answer<v2::SyncLiteSubscriptionResponse> {
        let call = self.begin("SyncLiteSubscription", &request);
        call.answer(Err(no_lite()), |status| v2::SyncLiteSubscriptionResponse {
            status,
        })
    }

    async fn pull_message(
        &self,
        _: Request<v2::PullMessageRequest>,
    ) -> Answer<Self::PullMessageStream> {
        Err(unsupported("PullMessage"))
    }

    async fn update_offset(
        &self,
        _: Request<v2::UpdateOffsetRequest>,
    ) -> Answer<v2::UpdateOffsetResponse> {
        Err(unsupported("UpdateOffset"))
    }

    async fn get_offset(&self, _: Request<v2::GetOffsetRequest>) -> Answer<v2::GetOffsetResponse> {
        Err(unsupported("GetOffset"))
    }

    async fn query_offset(
        &self,
        _: Request<v2::QueryOffsetRequest>,
    ) -> Answer<v2::QueryOffsetResponse> {
        Err(unsupported("QueryOffset"))
    }
}
