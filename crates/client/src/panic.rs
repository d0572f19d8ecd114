//! Catches panics of the user's code.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

/// The outcome of a future; `None` if it panics.
pub(crate) async fn catch_panic<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        match polled {
            Ok(Poll::Ready(outcome)) => Poll::Ready(Some(outcome)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_caught() {
        let fine = catch_panic(async {
            tokio::task::yield_now().await;
            7
        });
        assert_eq!(fine.await, Some(7));
        let broken = catch_panic(async {
            tokio::task::yield_now().await;
            panic!("as a listener may");
        });
        assert_eq!(broken.await, None::<()>);
    }
}
