//! Provides the two directions of a gRPC call: the requests that are sent and the responses that arrive.

use std::marker::PhantomData;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue};
use prost::Message;

use crate::error::Error;
use crate::framing::{Inbox, frame, unescape};

/// The requests of a call in which both sides may send until one ends it.
#[derive(Debug)]
pub(crate) struct RequestStream(pub(crate) SendStream<Bytes>);

impl RequestStream {
    pub(crate) fn send(&mut self, message: &impl Message) -> Result<(), Error> {
        Ok(self.0.send_data(frame(message), false)?)
    }
}

/// The responses of one call. Dropping it before the last one cancels the call.
#[derive(Debug)]
pub(crate) struct ResponseStream<A> {
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

impl<A> ResponseStream<A> {
    pub(crate) fn new(response: ResponseFuture) -> Self {
        Self {
            state: State::Waiting(response),
            inbox: Inbox::default(),
            kind: PhantomData,
        }
    }
}

impl<A: Message + Default> ResponseStream<A> {
    /// The next response; `None` once the call has ended without an error. Safe to cancel and call again.
    pub(crate) async fn next(&mut self) -> Result<Option<A>, Error> {
        loop {
            match &mut self.state {
                State::Ended => return Ok(None),
                State::Waiting(response) => {
                    let (head, body) = response.await?.into_parts();
                    if head.status != http::StatusCode::OK {
                        return Err(Error::Malformed(format!("HTTP status {}", head.status)));
                    }
                    // A call that failed at once has its status here and no body.
                    if head.headers.contains_key("grpc-status") {
                        self.state = State::Ended;
                        status_of(&head.headers)?;
                        return Ok(None);
                    }
                    self.state = State::Reading(body);
                }
                State::Reading(body) => {
                    if let Some(response) = self.inbox.take()? {
                        return Ok(Some(response));
                    }
                    if let Some(chunk) = body.data().await {
                        let chunk = chunk?;
                        body.flow_control().release_capacity(chunk.len())?;
                        self.inbox.push(chunk);
                        continue;
                    }
                    let trailers = body.trailers().await?.unwrap_or_default();
                    self.state = State::Ended;
                    status_of(&trailers)?;
                    if !self.inbox.is_empty() {
                        return Err(Error::Malformed("it ends within a message".to_owned()));
                    }
                    return Ok(None);
                }
            }
        }
    }
}

/// The outcome of a call, read from its trailers.
fn status_of(trailers: &HeaderMap) -> Result<(), Error> {
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
    fn trailers_carry_the_outcome_of_a_call() {
        let trailers = |pairs: &[(&'static str, &str)]| {
            let pairs = pairs.iter();
            pairs
                .map(|(name, value)| {
                    let value = HeaderValue::from_str(value).unwrap();
                    (http::HeaderName::from_static(name), value)
                })
                .collect::<HeaderMap>()
        };
        assert!(status_of(&trailers(&[("grpc-status", "0")])).is_ok());
        let error = status_of(&trailers(&[
            ("grpc-status", "14"),
            ("grpc-message", "a%20b"),
        ]));
        assert!(matches!(error, Err(Error::Call { status: 14, message }) if message == "a b"));
        assert!(status_of(&HeaderMap::new()).is_err());
    }
}
