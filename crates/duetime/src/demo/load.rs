//! Creates the demo's orders, and pays or cancels them as planned.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use broker::clock::Clock;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::plan::{Fate, OrderPlan};
use super::shop::{MadeOrder, Outcome, Shop};

/// Orders created per second: as many as two cores can handle with all that follows.
const ORDERS_PER_S: u64 = 800;
/// Orders created at the same time.
const CREATING_MAX: usize = 32;
/// How long before the deadline a late payment attempt is started, in ms.
const LAST_ATTEMPT_BEFORE_MS: u64 = 1_000;
/// How long after the deadline a late buyer pays, in ms.
const LATE_AFTER_MS: u64 = 1_500;

/// Counts for the progress bars and the report.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) orders: u64,
    created: AtomicU64,
    paid: AtomicU64,
    to_pay: AtomicU64,
    paid_last: AtomicU64,
    taken: AtomicU64,
    cancelled: AtomicU64,
    closed: AtomicU64,
}

impl Counters {
    pub(crate) fn new(orders: u32) -> Self {
        Self {
            orders: u64::from(orders),
            created: AtomicU64::new(0),
            paid: AtomicU64::new(0),
            to_pay: AtomicU64::new(0),
            paid_last: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            closed: AtomicU64::new(0),
        }
    }

    pub(crate) fn created(&self) -> u64 {
        self.created.load(Ordering::Relaxed)
    }

    pub(crate) fn paid(&self) -> u64 {
        self.paid.load(Ordering::Relaxed)
    }

    pub(crate) fn to_pay(&self) -> u64 {
        self.to_pay.load(Ordering::Relaxed)
    }

    /// Payments the gateway accepted in the last 50 ms before the deadline.
    pub(crate) fn paid_last(&self) -> u64 {
        self.paid_last.load(Ordering::Relaxed)
    }

    /// Payments the gateway accepted, in time or not.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    pub(crate) fn closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }

    /// Orders that will close: unpaid, paid too late, or cancelled.
    pub(crate) fn to_close(&self) -> u64 {
        self.orders - self.to_pay()
    }

    pub(crate) fn closed_so_far(&self, closed: u64) {
        self.closed.store(closed, Ordering::Relaxed);
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Creates all orders at a steady rate and handles each to its end; returns the last deadline.
pub(crate) async fn run(
    shop: &Shop,
    clock: &Arc<dyn Clock>,
    plans: &[OrderPlan],
    counters: &Arc<Counters>,
) -> Result<u64> {
    let pays = plans
        .iter()
        .filter(|plan| matches!(plan.fate, Fate::Paid { .. } | Fate::PaidLast { .. }))
        .count();
    counters.to_pay.store(pays as u64, Ordering::Relaxed);
    let permits = Arc::new(Semaphore::new(CREATING_MAX));
    let mut buyers = JoinSet::new();
    let start_ms = clock.now_ms();
    for (number, plan) in plans.iter().copied().enumerate() {
        clock
            .sleep_until(start_ms + number as u64 * 1_000 / ORDERS_PER_S)
            .await;
        let permit = Arc::clone(&permits)
            .acquire_owned()
            .await
            .context("wait for a permit")?;
        let (shop, clock, counters) = (shop.clone(), Arc::clone(clock), Arc::clone(counters));
        buyers.spawn(async move {
            let order = shop.order(number, plan.deadline_after_ms).await?;
            count(&counters.created);
            drop(permit);
            let deadline_ms =
                u64::try_from(order.deadline.as_millisecond()).context("read the deadline")?;
            act(&shop, &*clock, &counters, (&order, deadline_ms), plan).await?;
            anyhow::Ok(deadline_ms)
        });
    }
    let mut last_deadline_ms = 0;
    while let Some(buyer) = buyers.join_next().await {
        last_deadline_ms = std::cmp::max(last_deadline_ms, buyer.context("act as a buyer")??);
    }
    Ok(last_deadline_ms)
}

/// Acts as the buyer of one order.
async fn act(
    shop: &Shop,
    clock: &dyn Clock,
    counters: &Counters,
    (order, deadline_ms): (&MadeOrder, u64),
    plan: OrderPlan,
) -> Result<()> {
    let made_ms = deadline_ms - plan.deadline_after_ms;
    match plan.fate {
        Fate::Unpaid => Ok(()),
        Fate::Cancelled { after_ms } => {
            clock.sleep_until(made_ms + after_ms).await;
            if shop.cancel(&order.id).await? == Outcome::Done {
                count(&counters.cancelled);
            }
            Ok(())
        }
        Fate::Paid { after_ms } => {
            clock.sleep_until(made_ms + after_ms).await;
            pay_at(shop, clock, counters, order, None).await.map(drop)
        }
        Fate::PaidLast { before_ms } => {
            clock
                .sleep_until(deadline_ms - LAST_ATTEMPT_BEFORE_MS)
                .await;
            if pay_at(shop, clock, counters, order, Some(deadline_ms - before_ms)).await? {
                count(&counters.paid_last);
            }
            Ok(())
        }
        Fate::PaidLate => {
            clock
                .sleep_until(deadline_ms - LAST_ATTEMPT_BEFORE_MS)
                .await;
            let Some(attempt) = shop.start_payment(&order.id).await? else {
                return Ok(());
            };
            clock.sleep_until(deadline_ms + LATE_AFTER_MS).await;
            if shop.pay(&attempt, true).await? == Outcome::Done {
                count(&counters.taken);
            }
            Ok(())
        }
    }
}

/// Starts an attempt and pays it, at an instant if one is given; returns whether the gateway accepted the money.
async fn pay_at(
    shop: &Shop,
    clock: &dyn Clock,
    counters: &Counters,
    order: &MadeOrder,
    at_ms: Option<u64>,
) -> Result<bool> {
    let Some(attempt) = shop.start_payment(&order.id).await? else {
        return Ok(false);
    };
    if let Some(at_ms) = at_ms {
        clock.sleep_until(at_ms).await;
    }
    let taken = shop.pay(&attempt, false).await? == Outcome::Done;
    count(&counters.paid);
    if taken {
        count(&counters.taken);
    }
    Ok(taken)
}
