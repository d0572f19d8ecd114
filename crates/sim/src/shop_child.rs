//! Runs the shop that is killed: the order platform on its embedded broker, with buyers who pay, cancel, extend and
//! stay away, often two of these at once. It reports the answers it got.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker::{Broker, BrokerConfig};
use orders::embedded::Embedded;
use orders::gateway::Gateways;
use orders::gateway::simulator::{
    CallbackSink, Delivery, Faults, GATEWAY_NAME, NotAcknowledged, PayRequest, Simulator,
    SimulatorConfig,
};
use orders::{
    CloseReason, Config, Deadline, Error, MerchantId, NewAttempt, NewCouponRule, NewGatewayAccount,
    NewLine, NewOrder, NewProduct, OnFullRefund, OrderId, OrderState, Platform, ProductId, Running,
    Swept,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use crate::child::{READY, Task, report};

/// Buyers at the same time.
const BUYERS: u64 = 24;
/// The line a draining child writes when every order has ended.
pub(crate) const DRAINED: &str = "drained";

/// The platform's configuration: short waits, and a sweeper that never comes, so that it cannot hide a lost timer.
pub(crate) fn config(folder: &Path) -> Config {
    Config {
        deadline_min_ms: 50,
        deadline_default_ms: 1_000,
        sweep_every: Duration::from_hours(24),
        sweep_grace_ms: 5_000,
        ..Config::new(folder.join("orders.db"))
    }
}

/// Hands callbacks to the platform in this process.
struct Direct(Platform);

#[async_trait]
impl CallbackSink for Direct {
    async fn deliver(&self, delivery: Delivery) -> Result<(), NotAcknowledged> {
        let account = delivery
            .account_id
            .parse()
            .map_err(|error| NotAcknowledged(format!("{error}")))?;
        match self
            .0
            .handle_callback(account, &delivery.headers, &delivery.body)
            .await
        {
            Ok(_) => Ok(()),
            Err(error) => Err(NotAcknowledged(error.to_string())),
        }
    }
}

/// What the buyers share.
struct Shop {
    platform: Platform,
    simulator: Simulator,
    merchant: MerchantId,
    products: Vec<ProductId>,
    cycle: u64,
}

/// Opens the shop in a folder and keeps it busy until the parent kills the process or closes its input.
pub async fn shop_child(folder: &Path, task: Task) -> anyhow::Result<()> {
    let broker = Broker::open(&folder.join("broker"), BrokerConfig::default())?;
    let clock = Arc::clone(broker.clock());
    let messaging = Arc::new(Embedded::new(broker.clone()));
    let running = Running::open(config(folder), Arc::clone(&clock), Gateways::default()).await?;
    let platform = running.platform.clone();
    platform.ensure_default_merchant().await?;
    let settings = SimulatorConfig {
        seed: task.cycle,
        faults: faults(),
        close_delay_ms: 0,
    };
    let simulator = Simulator::new(settings, b"known to no client", clock);
    let shop = Arc::new(furnish(platform.clone(), simulator.clone(), task.cycle).await?);
    // Timers that are overdue fire at once, and need the gateway accounts that were connected just now.
    let mut running = running.begin(messaging).await?;
    tokio::spawn(simulator.run(Arc::new(Direct(platform.clone())), std::future::pending()));
    report(READY);
    let mut buyers = JoinSet::new();
    if task.drains {
        buyers.spawn(drain(Arc::clone(&shop)));
    } else {
        for buyer in 0..BUYERS {
            buyers.spawn(buy(Arc::clone(&shop), buyer));
        }
    }
    let input =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    tokio::select! {
        _ = input => {}
        Some(ended) = buyers.join_next() => anyhow::bail!("a buyer ended: {ended:?}"),
        () = running.broken() => anyhow::bail!("a task of the platform ended"),
    }
    buyers.shutdown().await;
    running.stop().await;
    match broker.shutdown().await {
        broker::Health::Stopped => Ok(()),
        health => anyhow::bail!("the broker ended as {health:?}"),
    }
}

fn faults() -> Faults {
    Faults {
        create_unknown: 0.05,
        create_unreached: 0.05,
        close_unknown: 0.1,
        paid_while_closing: 0.1,
        slow_payment: 0.2,
        slow_payment_ms: 500,
        callback_lost: 0.1,
        callback_duplicated: 0.2,
        callback_late: 0.2,
        callback_late_ms: 700,
        wrong_amount: 0.05,
        ..Faults::default()
    }
}

/// Makes what a shop needs, unless an earlier child has.
async fn furnish(platform: Platform, simulator: Simulator, cycle: u64) -> Result<Shop, Error> {
    let merchant = MerchantId::fallback();
    if platform.gateway_accounts(Some(&merchant)).await?.is_empty() {
        let account = NewGatewayAccount {
            gateway: GATEWAY_NAME.to_owned(),
            name: "test".to_owned(),
            settings: "{}".to_owned(),
        };
        platform
            .create_gateway_account(&merchant, account, None)
            .await?;
    }
    platform.connect_simulator(&simulator).await?;
    let currency = match "EUR".parse() {
        Ok(currency) => currency,
        Err(error) => unreachable!("EUR is a currency: {error}"),
    };
    if platform.coupon_rules(&merchant).await?.is_empty() {
        let rule = NewCouponRule {
            name: "thanks".to_owned(),
            amount_off_minor: 50,
            currency,
            min_total_minor: 1_000,
            valid_days: 30,
            on_full_refund: OnFullRefund::Keep,
        };
        platform.create_coupon_rule(&merchant, rule, None).await?;
    }
    let mut products: Vec<_> = platform
        .products(&merchant, None, 10)
        .await?
        .iter()
        .map(|one| one.id)
        .collect();
    while products.len() < 3 {
        let new = NewProduct {
            name: format!("tea {}", products.len()),
            price_minor: 500,
            currency,
            // The last one is short, so that buyers race for it.
            stock: if products.len() == 2 { 40 } else { 1_000_000 },
        };
        products.push(
            platform
                .create_product(&merchant, new, None)
                .await?
                .value
                .id,
        );
    }
    Ok(Shop {
        platform,
        simulator,
        merchant,
        products,
        cycle,
    })
}

/// Refusals are answers; anything else ends the child.
fn refusal<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(
            Error::OrderState { .. }
            | Error::DeadlineReached { .. }
            | Error::InsufficientStock { .. }
            | Error::GatewayRefused { .. }
            | Error::Invalid { .. },
        ) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn buy(shop: Arc<Shop>, buyer: u64) -> Result<(), Error> {
    let mut rng = StdRng::seed_from_u64(shop.cycle << 16 | buyer);
    let clock = Arc::clone(shop.platform.clock());
    for count in 0_u64.. {
        let product_id = shop
            .products
            .get(rng.random_range(0..shop.products.len()))
            .copied();
        let Some(product_id) = product_id else {
            break;
        };
        let new = NewOrder {
            merchant_order_no: format!("{}-{buyer}-{count}", shop.cycle),
            buyer_id: format!("buyer-{buyer}"),
            lines: vec![NewLine {
                product_id,
                quantity: rng.random_range(1..4),
            }],
            coupon_id: None,
            deadline: Deadline::AfterMs(rng.random_range(60..1_500)),
        };
        let Some(order) = refusal(shop.platform.create_order(&shop.merchant, new, None).await)?
        else {
            clock.sleep(Duration::from_millis(5)).await;
            continue;
        };
        report(format_args!(
            "created {} {}",
            order.value.id, order.value.deadline_ms
        ));
        let id = order.value.id;
        let (first, second) = (rng.random_range(0..10), rng.random_range(0..20));
        let (pause, other) = (rng.random_range(0..1_600), rng.random_range(0..1_600));
        // Two wills on one order, each at its own moment.
        let (one, two) = tokio::join!(act(&shop, id, first, pause), act(&shop, id, second, other));
        one?;
        two?;
        let order = shop.platform.order(&shop.merchant, id).await?;
        match order.state {
            OrderState::Paid => report(format_args!("ended {id} paid")),
            OrderState::Closed => report(format_args!("ended {id} closed")),
            OrderState::Pending | OrderState::Closing => {}
        }
    }
    Ok(())
}

/// What is done about an order after a pause: mostly pay, else cancel, extend, or nothing.
async fn act(shop: &Shop, id: OrderId, choice: u32, pause_ms: u64) -> Result<(), Error> {
    let clock = shop.platform.clock();
    clock.sleep(Duration::from_millis(pause_ms)).await;
    match choice {
        0..5 => {
            let new = NewAttempt { account_id: None };
            let started = shop
                .platform
                .start_payment(&shop.merchant, id, new, None)
                .await;
            let Some(attempt) = refusal(started)? else {
                return Ok(());
            };
            clock.sleep(Duration::from_millis(pause_ms / 8)).await;
            let pay = PayRequest {
                // Now and then money comes although it is too late.
                forced: pause_ms.is_multiple_of(7),
                ..PayRequest::default()
            };
            // The gateway may refuse too.
            let _ = shop.simulator.pay(&attempt.value.id.to_string(), &pay);
        }
        5..7 => {
            let cancelled = shop
                .platform
                .cancel_order(&shop.merchant, id, CloseReason::Buyer)
                .await;
            if refusal(cancelled)?.is_some_and(|order| order.state == OrderState::Closed) {
                report(format_args!("ended {id} closed"));
            }
        }
        7 => {
            let later_ms = i64::try_from(clock.now_ms() + 500).unwrap_or(i64::MAX);
            let extended = shop
                .platform
                .extend_order(&shop.merchant, id, later_ms)
                .await;
            if let Some(order) = refusal(extended)? {
                report(format_args!("extended {id} {}", order.deadline_ms));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Waits until every order has ended, checks every rule, and says so.
async fn drain(shop: Arc<Shop>) -> Result<(), Error> {
    let clock = Arc::clone(shop.platform.clock());
    while shop.platform.open_orders().await? > 0 || shop.platform.unpublished().await? > 0 {
        clock.sleep(Duration::from_millis(50)).await;
    }
    // Coupons are decided by an event after the last payment.
    clock.sleep(Duration::from_millis(500)).await;
    for finding in shop.platform.verify().await? {
        if finding.broken > 0 {
            report(format_args!(
                "broken {} {} {:?}",
                finding.broken, finding.rule, finding.examples
            ));
        }
    }
    let swept = shop.platform.sweep().await?;
    if swept != Swept::default() {
        report(format_args!("broken 1 the sweeper finds nothing {swept:?}"));
    }
    report(DRAINED);
    std::future::pending().await
}
