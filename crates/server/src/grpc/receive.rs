//! Receives messages for consumers: the wait, the lease, and the stream of the answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use broker::{Delivered, ReceiptHandle, ReceiveRequest};
use futures_core::Stream;
use grpc_api::v2::receive_message_response::Content;
use grpc_api::v2::{Code, ReceiveMessageRequest, ReceiveMessageResponse, Resource, Status};

use edge::budget::Share;

use super::Shared;
use super::batch::Given;
use super::convert::{Outgoing, ms_of_duration, outgoing, timestamp_of_ms};
use super::limits::{
    BATCH_MAX, INVISIBLE_MS_MIN, LEASE_MS, LEASE_UNKNOWN_MS, POLL_MARGIN_MS, POLL_MS_MAX,
};
use super::peer::Peer;
use super::status::{Problem, ok};
use crate::answers::AnswerShare;
use crate::metrics::{self, FrontEnd};

/// Longest invisible duration, in ms: 12 hours, the broker's own limit.
const INVISIBLE_MS_MAX: u64 = 12 * 3_600_000;

impl Shared {
    /// Waits for messages and leases them.
    ///
    /// The queue a consumer names is a hint only: it gets messages of the whole topic, since some clients
    /// never name another queue than the first.
    pub(crate) async fn receive(
        self: &Arc<Self>,
        peer: &Peer,
        deadline: Option<Duration>,
        request: ReceiveMessageRequest,
    ) -> Result<Deliveries, Problem> {
        let queue = request.message_queue.unwrap_or_default();
        let topic = peer.topic_name(queue.topic.as_ref())?;
        let group = peer.group_name(request.group.as_ref())?;
        peer.may_consume(&topic, &group)?;
        let filter = self.filters.compile(request.filter_expression.as_ref())?;
        // Whether a client without an id is still connected is not known, and the number of those that are kept is limited.
        let renews = !peer.client.is_nameless() && self.outstanding.has_room();
        let renews = request.auto_renew.then_some(renews);
        let lease = lease(renews, request.invisible_duration.as_ref())?;
        let attempt_id = request.attempt_id.unwrap_or_default();
        if !peer.client.is_nameless() {
            self.sessions.touch(&peer.client);
            self.take_back(&peer.client, &attempt_id).await;
            self.outstanding.asked_again(&peer.client, &peer.connection);
        }
        let wait_ms = wait_ms(request.long_polling_timeout.as_ref(), deadline);
        let _wait = self.wait_of(peer, wait_ms)?;
        let share = AnswerShare::new(&self.answers);
        let wanted = ReceiveRequest {
            topic: topic.into_owned(),
            group: group.into_owned(),
            messages_max: usize::try_from(request.batch_size)
                .unwrap_or(0)
                .clamp(1, BATCH_MAX),
            invisible_ms: lease.invisible_ms,
            filter,
            // Push consumers hand what comes to several threads; who settles each message itself knows its order.
            run: !request.auto_renew,
        };
        let room: Arc<AnswerShare> = Arc::clone(&share);
        let wait = Duration::from_millis(wait_ms);
        let received = self.broker.receive_into(Some(room), wanted, wait);
        let delivered = tokio::select! {
            biased;
            delivered = received => delivered?,
            () = self.stopping() => Vec::new(),
        };
        if !delivered.is_empty() {
            let now_ms = self.clock().now_ms();
            metrics::lateness(FrontEnd::Grpc, now_ms, &delivered);
            self.note(peer, &attempt_id, lease, &delivered);
        }
        Ok(Deliveries {
            shared: Some(Arc::clone(self)),
            status: Some(found(delivered.is_empty())),
            namespace: peer.namespace_of(queue.topic.as_ref()).to_owned(),
            topic: queue.topic.unwrap_or_default(),
            invisible_ms: lease.invisible_ms,
            messages: delivered.into_iter(),
            _share: Some(share),
        })
    }

    /// Counts a receive that waits, until the returned value is dropped; of one connection only so many may.
    fn wait_of(&self, peer: &Peer, wait_ms: u64) -> Result<Option<Share>, Problem> {
        let connection = peer.connection.upgrade().filter(|_| wait_ms > 0);
        let Some(connection) = connection else {
            return Ok(None);
        };
        let share = connection.parts.wait(self.broker.waiting_pollers_max());
        share.map(Some).ok_or_else(|| {
            let message =
                "the connection has as many receives that wait as one connection may have";
            Problem::new(Code::TooManyRequests, message)
        })
    }

    /// Keeps deliveries until they are settled: to renew them, or to take them back if the attempt is repeated.
    fn note(&self, peer: &Peer, attempt_id: &str, lease: Lease, delivered: &[Delivered]) {
        let may_repeat = !peer.client.is_nameless() && !attempt_id.is_empty();
        let is_kept = lease.renewed || (may_repeat && self.outstanding.has_room());
        if !is_kept {
            return;
        }
        let given = Given {
            client: &peer.client,
            connection: &peer.connection,
            attempt_id,
            invisible_ms: (!lease.renewed).then_some(lease.invisible_ms),
        };
        let handles = delivered.iter().map(|delivery| delivery.handle);
        self.outstanding.add(self.clock().now_ms(), &given, handles);
    }
}

fn found(nothing: bool) -> Status {
    if nothing {
        Status {
            code: Code::MessageNotFound.into(),
            message: "no message is due".to_owned(),
        }
    } else {
        ok()
    }
}

/// The lease of deliveries, and whether it is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lease {
    invisible_ms: u64,
    renewed: bool,
}

/// Returns the lease of what is received; `renews`: of deliveries that the server is asked to renew, whether it does.
fn lease(renews: Option<bool>, invisible: Option<&grpc_api::Duration>) -> Result<Lease, Problem> {
    if let Some(renews) = renews {
        let invisible_ms = if renews { LEASE_MS } else { LEASE_UNKNOWN_MS };
        return Ok(Lease {
            invisible_ms,
            renewed: renews,
        });
    }
    match invisible.and_then(ms_of_duration) {
        Some(invisible_ms) if (INVISIBLE_MS_MIN..=INVISIBLE_MS_MAX).contains(&invisible_ms) => {
            Ok(Lease {
                invisible_ms,
                renewed: false,
            })
        }
        _ => Err(Problem::new(
            Code::IllegalInvisibleTime,
            format!(
                "the invisible duration must be from {} s to {} h",
                INVISIBLE_MS_MIN / 1_000,
                INVISIBLE_MS_MAX / 3_600_000
            ),
        )),
    }
}

/// Returns how long to wait: as the client asks, but with an answer before its deadline.
fn wait_ms(asked: Option<&grpc_api::Duration>, deadline: Option<Duration>) -> u64 {
    let asked_ms = asked.map_or(POLL_MS_MAX, |asked| ms_of_duration(asked).unwrap_or(0));
    let left_ms = deadline.map_or(u64::MAX, |deadline| {
        u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX)
    });
    let margin_ms = std::cmp::min(POLL_MARGIN_MS, left_ms / 2);
    std::cmp::min(std::cmp::min(asked_ms, POLL_MS_MAX), left_ms - margin_ms)
}

/// The stream of one answer: its status, the messages, and the time of delivery.
///
/// Messages are converted one by one as the client reads them. Those it did not read are returned at once.
#[derive(Debug)]
pub(crate) struct Deliveries {
    /// `None` after the last item.
    shared: Option<Arc<Shared>>,
    status: Option<Status>,
    topic: Resource,
    namespace: String,
    invisible_ms: u64,
    messages: std::vec::IntoIter<Delivered>,
    _share: Option<Arc<AnswerShare>>,
}

impl Deliveries {
    /// Returns an answer with a status alone.
    pub(crate) fn of_status(status: Status) -> Self {
        Self {
            shared: None,
            status: Some(status),
            topic: Resource::default(),
            namespace: String::new(),
            invisible_ms: 0,
            messages: Vec::new().into_iter(),
            _share: None,
        }
    }

    fn next_content(&mut self) -> Option<Content> {
        if let Some(status) = self.status.take() {
            return Some(Content::Status(status));
        }
        let shared = self.shared.as_ref()?;
        let Some(delivery) = self.messages.next() else {
            let now_ms = shared.clock().now_ms();
            self.shared = None;
            return Some(Content::DeliveryTimestamp(timestamp_of_ms(now_ms)));
        };
        let around = Outgoing {
            topic: &self.topic,
            namespace: &self.namespace,
            queue: delivery.queue,
            delivery: Some((delivery.attempt, &delivery.handle)),
            invisible_ms: Some(self.invisible_ms),
            store_host: &shared.store_host,
        };
        Some(Content::Message(outgoing(&delivery.message, around)))
    }
}

impl Stream for Deliveries {
    type Item = Result<ReceiveMessageResponse, tonic::Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let content = self.next_content();
        Poll::Ready(content.map(|content| {
            Ok(ReceiveMessageResponse {
                content: Some(content),
            })
        }))
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        let left: Vec<ReceiptHandle> = self.messages.by_ref().map(|left| left.handle).collect();
        if let Some(shared) = self.shared.take().filter(|_| !left.is_empty()) {
            shared.return_later(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::convert::duration_of_ms;

    #[test]
    fn an_answer_comes_before_the_deadline_of_the_client() {
        let seconds = Duration::from_secs;
        for (asked_ms, deadline, expected_ms) in [
            (None, None, POLL_MS_MAX),
            (Some(30_000), Some(seconds(33)), POLL_MS_MAX),
            (Some(5_000), Some(seconds(8)), 5_000),
            // The deadline of the crate rocketmq 5.0.0 is as long as the wait it asks for.
            (Some(5_000), Some(seconds(5)), 4_000),
            (None, Some(seconds(10)), 9_000),
            (Some(5_000), Some(Duration::from_millis(900)), 450),
            (Some(0), Some(seconds(3)), 0),
        ] {
            let asked = asked_ms.map(duration_of_ms);
            assert_eq!(
                wait_ms(asked.as_ref(), deadline),
                expected_ms,
                "{asked_ms:?} {deadline:?}"
            );
        }
    }
}
