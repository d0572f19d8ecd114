//! Provides the loop that kills a shop: a child runs the order platform, the parent kills it at any moment and checks
//! in the end that what was answered is true and that no rule of the platform is broken.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use broker::clock::{Stopwatch, SystemClock};
use orders::gateway::Gateways;
use orders::{MerchantId, OrderId, OrderState, Platform, Running, Tally};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::child::READY;
use crate::kill::Offspring;
use crate::shop_child::{DRAINED, config};

/// How long a shop may take to bring every order to its end.
const DRAIN_MAX: Duration = Duration::from_secs(150);

/// What a loop came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShopKills {
    /// Children killed.
    pub kills: u64,
    /// Orders whose creation was answered.
    pub orders: u64,
    /// Orders seen paid or closed before a kill.
    pub ends: u64,
    /// What the platform holds in the end.
    pub tally: Tally,
}

/// What was answered about an order.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    deadline_ms: i64,
    end: Option<OrderState>,
}

#[derive(Default)]
struct Ledger {
    orders: BTreeMap<String, Known>,
    broken: Vec<String>,
}

impl Ledger {
    fn hear(&mut self, line: &str) -> Result<()> {
        let line = line.trim_end();
        if line == READY || line == DRAINED {
            return Ok(());
        }
        let (what, rest) = line.split_once(' ').context("a line without words")?;
        if what == "broken" {
            self.broken.push(rest.to_owned());
            return Ok(());
        }
        let (id, value) = rest.split_once(' ').context("a line without a value")?;
        let known = self.orders.entry(id.to_owned()).or_default();
        match what {
            "created" | "extended" => {
                known.deadline_ms = std::cmp::max(known.deadline_ms, value.parse()?);
            }
            "ended" => {
                let end = if value == "paid" {
                    OrderState::Paid
                } else {
                    OrderState::Closed
                };
                ensure!(
                    known.end.is_none_or(|before| before == end),
                    "order {id} ended as {:?} and then as {end:?}",
                    known.end
                );
                known.end = Some(end);
            }
            _ => bail!("an unknown line: {line}"),
        }
        Ok(())
    }

    /// Compares what was answered with the database.
    async fn check(&self, platform: &Platform) -> Result<()> {
        let merchant = MerchantId::fallback();
        for (id, known) in &self.orders {
            let order_id: OrderId = id.parse()?;
            let order = platform.order(&merchant, order_id).await?;
            ensure!(
                matches!(order.state, OrderState::Paid | OrderState::Closed),
                "order {id} is still {}",
                order.state
            );
            ensure!(
                known.end.is_none_or(|end| end == order.state),
                "order {id} was {:?} and is {}",
                known.end,
                order.state
            );
            ensure!(
                order.deadline_ms >= known.deadline_ms,
                "order {id} was extended to {} and ends at {}",
                known.deadline_ms,
                order.deadline_ms
            );
        }
        Ok(())
    }
}

/// Kills a process that runs a shop in `folder`, again and again; then lets it finish and checks everything.
pub fn kill_shop_loop(folder: &Path, cycles: u64, seed: u64) -> Result<ShopKills> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut ledger = Ledger::default();
    std::fs::create_dir_all(folder).context("make the folder")?;
    for cycle in 1..=cycles {
        let lives = Duration::from_micros(rng.random_range(50_000..1_500_000));
        let from_opening = rng.random_bool(0.9);
        Offspring::spawn("shop-child", folder, cycle, false)?.live(
            lives,
            from_opening,
            |line| ledger.hear(line),
        )?;
    }
    drain(
        &mut ledger,
        Offspring::spawn("shop-child", folder, cycles + 1, true)?,
    )?;
    ensure!(
        ledger.broken.is_empty(),
        "broken: {}",
        ledger.broken.join("; ")
    );
    let tally = tokio::runtime::Runtime::new()?.block_on(async {
        let clock = Arc::new(SystemClock::start());
        let running = Running::open(config(folder), clock, Gateways::default()).await?;
        let checked = ledger.check(&running.platform).await;
        let tally = running.platform.tally().await;
        running.stop().await;
        checked?;
        anyhow::Ok(tally?)
    })?;
    let ends = ledger
        .orders
        .values()
        .filter(|known| known.end.is_some())
        .count();
    Ok(ShopKills {
        kills: cycles,
        orders: ledger.orders.len() as u64,
        ends: ends as u64,
        tally,
    })
}

/// Lets a shop bring everything to its end and shut down.
fn drain(ledger: &mut Ledger, child: Offspring) -> Result<()> {
    let watch = Stopwatch::start();
    loop {
        let left = DRAIN_MAX.checked_sub(watch.elapsed());
        let Some(line) = left.and_then(|left| child.hear(left)) else {
            bail!("the shop did not bring every order to its end within {DRAIN_MAX:?}");
        };
        if line.trim_end() == DRAINED {
            break;
        }
        ledger.hear(&line)?;
    }
    child.finish()
}
