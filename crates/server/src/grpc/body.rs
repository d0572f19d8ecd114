//! Limits the bytes of requests in memory: bodies are counted against a budget while they are read.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use edge::budget::Share;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// The body of a request, counted against the budget until the request is answered.
#[derive(Debug)]
pub(crate) struct RequestBody {
    inner: Incoming,
    held: Arc<Share>,
}

impl RequestBody {
    pub(crate) fn new(inner: Incoming, held: Arc<Share>) -> Self {
        Self { inner, held }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(error))) => {
                return Poll::Ready(Some(Err(tonic::Status::from_error(Box::new(error)))));
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        Poll::Ready(Some(if self.held.grow(bytes) {
            Ok(frame)
        } else {
            Err(tonic::Status::resource_exhausted(
                "the requests under way have as many bytes as allowed; try again later",
            ))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
