//! Limits the bytes of requests in memory: a budget, and the bodies that are counted against it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// Bytes that may be in memory at the same time.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    held: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            held: AtomicUsize::new(0),
        })
    }

    /// Returns whether any of the budget is left.
    pub(crate) fn has_room(&self) -> bool {
        self.held.load(Ordering::Relaxed) < self.bytes_max
    }

    /// Returns an empty share, to be grown.
    pub(crate) fn hold(self: &Arc<Self>) -> Held {
        Held {
            budget: Arc::clone(self),
            bytes: AtomicUsize::new(0),
        }
    }
}

/// A share of a budget, returned when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<Budget>,
    bytes: AtomicUsize,
}

impl Held {
    /// Adds so many bytes, or none if fewer are left.
    pub(crate) fn grow(&self, bytes: usize) -> bool {
        let before = self.budget.held.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.budget.bytes_max {
            self.budget.held.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        true
    }

    /// Adds so many bytes, even if fewer are left.
    pub(crate) fn overdraw(&self, bytes: usize) {
        self.budget.held.fetch_add(bytes, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.budget.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The body of a request, counted against the budget until the request is answered.
#[derive(Debug)]
pub(crate) struct RequestBody {
    inner: Incoming,
    held: Arc<Held>,
}

impl RequestBody {
    pub(crate) fn new(inner: Incoming, held: Arc<Held>) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_not_exceeded_by_growth_and_is_returned() {
        let budget = Budget::new(100);
        let first = budget.hold();
        assert!(first.grow(60) && !first.grow(41) && first.grow(40));
        assert!(!budget.has_room());
        let second = budget.hold();
        assert!(!second.grow(1));
        second.overdraw(5);
        drop(first);
        assert!(budget.has_room() && second.grow(95) && !second.grow(1));
    }
}
