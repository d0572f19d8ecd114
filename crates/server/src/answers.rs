//! Counts the messages that are being sent to consumers against the budget that all front ends share.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use edge::budget::{Budget, Share};
use http_body::{Body, Frame, SizeHint};

/// Bytes of an answer that are given to the connection at a time, so that the body lasts until the others are written.
const PART_BYTES: usize = 64 * 1024;

/// The share of one answer. The broker takes from it before the messages are in memory.
#[derive(Debug)]
pub(crate) struct AnswerShare(Share);

impl AnswerShare {
    pub(crate) fn new(answers: &Arc<Budget>) -> Arc<Self> {
        Arc::new(Self(answers.hold()))
    }

    /// Makes the share as large as what the answer takes now.
    pub(crate) fn resize(&self, bytes: usize) {
        self.0.resize(bytes);
    }
}

impl broker::Room for AnswerShare {
    fn is_left(&self) -> bool {
        self.0.has_room()
    }

    fn take(&self, bytes: usize) {
        self.0.overdraw(bytes);
    }
}

/// The body of an answer, which holds its share until it has been written.
#[derive(Debug)]
pub(crate) struct AnswerText {
    text: Bytes,
    _share: Arc<AnswerShare>,
}

impl AnswerText {
    pub(crate) fn new(text: Bytes, share: Arc<AnswerShare>) -> Self {
        share.resize(text.len());
        Self {
            text,
            _share: share,
        }
    }
}

impl Body for AnswerText {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.text.is_empty() {
            return Poll::Ready(None);
        }
        let bytes = std::cmp::min(self.text.len(), PART_BYTES);
        let part = self.text.split_to(bytes);
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.text.len() as u64)
    }
}
