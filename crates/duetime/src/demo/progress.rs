//! Shows the progress of the demo as bars on a terminal.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

use super::load::Counters;

/// How often the bars are redrawn.
const MOVE_EVERY: Duration = Duration::from_millis(100);

/// Bars that follow the counters until `finish`.
pub(crate) struct Bars {
    follower: JoinHandle<()>,
    drawn: [ProgressBar; 3],
    counters: Arc<Counters>,
}

/// Draws the bars on standard error, if that is a terminal.
pub(crate) fn show(counters: Arc<Counters>) -> Bars {
    let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template(
        "  {prefix:9} [{bar:30}] {human_pos:>6} / {human_len:6} {per_sec}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar())
    .progress_chars("=>-");
    let bar = |prefix: &'static str| {
        all.add(ProgressBar::new(0))
            .with_prefix(prefix)
            .with_style(style.clone())
    };
    let bars = [bar("creating"), bar("paying"), bar("closing")];
    let shown = (bars.clone(), Arc::clone(&counters));
    let follower = tokio::spawn(async move {
        let (bars, counters) = shown;
        let mut every = broker::clock::monotonic::interval(MOVE_EVERY);
        loop {
            every.tick().await;
            update(&bars, &counters);
        }
    });
    Bars {
        follower,
        drawn: bars,
        counters,
    }
}

fn update([creating, paying, closing]: &[ProgressBar; 3], counters: &Counters) {
    for (bar, position, length) in [
        (creating, counters.created(), counters.orders),
        (paying, counters.paid(), counters.to_pay()),
        (closing, counters.closed(), counters.to_close()),
    ] {
        bar.set_length(length);
        bar.set_position(position);
    }
}

impl Bars {
    /// Shows the final counts.
    pub(crate) async fn finish(self) {
        self.follower.abort();
        // It was aborted, so its result says nothing.
        let _ = self.follower.await;
        update(&self.drawn, &self.counters);
        for bar in &self.drawn {
            bar.abandon();
        }
    }
}
