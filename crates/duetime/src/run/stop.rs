//! Provides the future that ends when the process is asked to stop.

use tokio::sync::watch;

/// Ends when the sender sends `true`, or is dropped.
pub(super) async fn ended(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is dropped, which is a reason to stop too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
