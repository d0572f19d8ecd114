//! Provides `duetime demo`: runs a platform in a temporary folder and reports how its orders closed.

mod load;
mod plan;
mod progress;
mod report;
mod scan;
mod shop;

use std::io::{IsTerminal as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use broker::clock::{Clock, SystemClock};
use orders::Tally;

use self::load::Counters;
use self::report::Report;
use self::shop::Shop;
use crate::run::{Embedded, Setup};

/// How long refunds and coupons may take once the last order is due.
const SETTLE_TIME: Duration = Duration::from_secs(30);
/// How often the demo checks whether everything has settled.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The arguments of the demo.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many orders to create
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=200_000))]
    orders: u32,
    /// The seed that decides what happens to each order
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Keep the data in the temporary folder
    #[arg(long)]
    keep: bool,
}

/// Runs the demo and prints its report; fails if an invariant is broken.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("duetime-demo-")
        .tempdir()
        .context("make a temporary folder")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    say(&format!(
        "Duetime demo: {} orders, deadlines 5-15 s away, fsync on, everything in this process",
        report::grouped(u64::from(arguments.orders))
    ))?;
    let report = runtime.block_on(demonstrate(arguments, folder.path()))?;
    say(&coloured(&report.text()))?;
    if report.holds() && !arguments.keep {
        say("  Data was in a temporary folder and is gone. Next: duetime serve")?;
        return Ok(());
    }
    // The data of a broken invariant is evidence.
    let kept = folder.keep();
    say(&format!("  Data is kept in {}", kept.display()))?;
    if report.holds() {
        Ok(())
    } else {
        bail!("an invariant is broken; the report above names it")
    }
}

async fn demonstrate(arguments: &Arguments, folder: &Path) -> Result<Report> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let setup = Setup::demo(folder, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let embedded = Embedded::start(setup, Arc::clone(&clock)).await?;
    let shop = Shop::open(embedded.address()).await?;
    let counters = Arc::new(Counters::new(arguments.orders));
    let bars = progress::show(Arc::clone(&counters));
    let fates = plan::draw(arguments.orders, arguments.seed);
    let last_deadline_ms = load::run(&shop, &clock, &fates, &counters).await?;
    let platform = embedded.platform().clone();
    let tally = settle(&platform, &clock, &counters, last_deadline_ms).await?;
    bars.finish().await;
    let findings = platform.verify().await?;
    let lags_ms = platform
        .close_lags_ms()
        .await?
        .into_iter()
        .map(|(_, lag_ms)| lag_ms)
        .collect();
    let history = platform.order_history().await?;
    let fired = shop.timers_fired().await?;
    embedded.stop().await?;
    let report = Report::new(tally, findings, lags_ms, &counters, fired);
    let p99_ms = report.lateness_p99_ms();
    let scan = scan::compare(&history, &folder.join("scan.db"), p99_ms).await?;
    Ok(report.with_scan(scan))
}

/// Waits until no order is open and every refund and coupon is done.
async fn settle(
    platform: &orders::Platform,
    clock: &Arc<dyn Clock>,
    counters: &Counters,
    last_deadline_ms: u64,
) -> Result<Tally> {
    let give_up_ms = last_deadline_ms + u64::try_from(SETTLE_TIME.as_millis())?;
    loop {
        let open = platform.open_orders().await?;
        counters.closed_so_far(counters.created().saturating_sub(open + counters.paid()));
        let overdue = clock.now_ms() > give_up_ms;
        if open == 0 || overdue {
            let tally = platform.tally().await?;
            let refunded = tally.payments_given_back == tally.payments_to_give_back;
            let settled = open == 0
                && refunded
                && tally.payments >= counters.taken()
                && tally.coupons >= tally.paid;
            // The report names what is unfinished by then.
            if settled || overdue {
                return Ok(tally);
            }
        }
        clock.sleep(LOOK_EVERY).await;
    }
}

/// The report with its broken invariants in red, on a terminal that shows colours.
fn coloured(report: &str) -> String {
    if !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some() {
        return report.to_owned();
    }
    let line = |line: &str| {
        if line.contains("BROKEN") || line.contains("NOT CONSERVED") {
            format!("\u{1b}[31m{line}\u{1b}[0m\n")
        } else {
            format!("{line}\n")
        }
    };
    report.lines().map(line).collect()
}

fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").context("write to standard output")
}
