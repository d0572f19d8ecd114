//! A clock that cannot be believed: nothing is closed by it until a person has confirmed it.

use broker::clock::ManualClock;

use crate::model::outbox::Topic;
use crate::tests::flows::nothing_waits;
use crate::tests::gateway::GatewayFaults;
use crate::tests::shop::{START_MS, Shop, answer};
use crate::timer::prune::Pruner;
use crate::{CloseReason, Order, OrderState, PauseCause, PauseScope, PauseState, TimerKind};

const DAY_MS: u64 = 86_400_000;
/// Longer than the clock may jump.
const YEARS_MS: u64 = 3 * 366 * DAY_MS;

/// An order that waits, one that waits with an attempt, and one that is closing because its gateway is silent.
async fn waiting_orders(shop: &Shop) -> [Order; 3] {
    let tea = shop.product(10).await;
    let plain = shop.order("A-1", &tea, 1).await;
    let with_attempt = shop.order("A-2", &tea, 1).await;
    shop.attempt(&with_attempt).await;
    let closing = shop.order("A-3", &tea, 1).await;
    shop.attempt(&closing).await;
    shop.gateway.set_faults(GatewayFaults {
        loses_call: 1.0,
        ..GatewayFaults::default()
    });
    let cancelled = shop
        .platform()
        .cancel_order(&shop.merchant, closing.id, CloseReason::Buyer);
    let closing = cancelled.await.unwrap();
    shop.settle().await;
    shop.gateway.set_faults(GatewayFaults::default());
    [plain, with_attempt, closing]
}

async fn states(shop: &Shop, orders: &[Order; 3]) -> Vec<OrderState> {
    let mut states = Vec::new();
    for order in orders {
        states.push(shop.read(order.id).await.state);
    }
    states
}

/// What every pause that is in force was begun by.
async fn causes(shop: &Shop) -> Vec<PauseCause> {
    let pauses = shop.platform().pauses().await.unwrap();
    let in_force = pauses
        .iter()
        .filter(|pause| pause.state == PauseState::Paused);
    in_force.map(|pause| pause.cause).collect()
}

#[tokio::test]
async fn a_start_years_later_closes_nothing_until_it_is_confirmed() {
    let shop = Shop::open().await;
    let orders = waiting_orders(&shop).await;
    let last_ms = shop.now_ms();
    let waiting = [
        OrderState::Pending,
        OrderState::Pending,
        OrderState::Closing,
    ];
    let asked = shop.gateway.asked();

    let mut shop = shop.reopen_after(YEARS_MS).await;
    for _ in 0..3 {
        shop.run_for(10 * 60_000).await;
        shop.platform().sweep().await.unwrap();
        assert_eq!(states(&shop, &orders).await, waiting);
        assert_eq!(causes(&shop).await, [PauseCause::Clock]);
        // What is recorded meanwhile makes the clock no more believable for the next start.
        let cake = shop.product(1).await;
        shop.order(&format!("B-{}", shop.now_ms()), &cake, 1).await;
        shop = shop.reopen().await;
    }
    assert_eq!(shop.gateway.asked(), asked, "no gateway is asked to close");
    let pause = shop.platform().pauses().await.unwrap().remove(0);
    assert_eq!(pause.scope, PauseScope::Everything);
    assert_eq!(pause.since_ms, last_ms);
    assert!(pause.reason.contains("1098 days"), "{}", pause.reason);

    // A repeated pause changes nothing about it, and money still pays.
    let paused = shop
        .platform()
        .pause(PauseScope::Everything, "look at the clock")
        .await;
    assert_eq!(paused.unwrap().cause, PauseCause::Clock);
    let attempts = shop.platform().attempts(&shop.merchant, orders[1].id).await;
    let attempt = attempts.unwrap().remove(0).id.to_string();
    let paid = shop.gateway.pay(&attempt, None, true).unwrap();
    shop.report(&attempt, &paid).await;
    let last = [OrderState::Closed, OrderState::Paid, OrderState::Closed];
    shop.platform()
        .resume(PauseScope::Everything)
        .await
        .unwrap();
    crate::step::release(shop.platform()).await.unwrap();
    shop.run_for(10 * 60_000).await;
    assert_eq!(states(&shop, &orders).await, last);
    nothing_waits(&shop).await;

    // It is confirmed, so the next start does not ask again.
    let shop = shop.reopen().await;
    assert_eq!(causes(&shop).await, []);
}

#[tokio::test]
async fn a_start_with_the_right_clock_continues_from_the_last_instant_believed() {
    let shop = Shop::open().await;
    let orders = waiting_orders(&shop).await;
    let mut shop = shop.reopen_after(YEARS_MS).await;
    let cake = shop.product(1).await;
    shop.order("B-1", &cake, 1).await;
    shop.platform().sweep().await.unwrap();
    shop.clock = ManualClock::new(START_MS + DAY_MS);
    let shop = shop.reopen().await;
    assert_eq!(
        u64::try_from(shop.platform().now_ms()),
        Ok(START_MS + DAY_MS)
    );
    assert_eq!(causes(&shop).await, [PauseCause::Clock]);
    let states = states(&shop, &orders).await;
    assert_eq!(states[0], OrderState::Pending);
    shop.platform()
        .resume(PauseScope::Everything)
        .await
        .unwrap();
    let shop = shop.reopen().await;
    assert_eq!(causes(&shop).await, []);
}

#[tokio::test]
async fn a_clock_that_jumps_while_it_runs_closes_nothing() {
    let shop = Shop::open().await;
    let orders = waiting_orders(&shop).await;
    let asked = shop.gateway.asked();
    shop.clock.advance(YEARS_MS);
    shop.run_for(60_000).await;
    assert_eq!(shop.gateway.asked(), asked, "no gateway is asked to close");
    assert_eq!(causes(&shop).await, [PauseCause::Clock]);
    let waiting = [
        OrderState::Pending,
        OrderState::Pending,
        OrderState::Closing,
    ];
    assert_eq!(states(&shop, &orders).await, waiting);
}

#[tokio::test]
async fn a_question_about_an_attempt_is_the_first_to_notice_a_jump() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    shop.attempt(&order).await;
    shop.pump().await;
    shop.clock.advance(YEARS_MS);
    let topic = Topic::Timers(TimerKind::Attempt);
    assert_eq!(answer(shop.platform(), &shop.broker, topic, 1).await, 1);
    assert_eq!(shop.gateway.asked(), 0, "no gateway is asked to close");
    assert_eq!(causes(&shop).await, [PauseCause::Clock]);
}

#[tokio::test]
async fn a_pause_by_request_is_kept_by_a_jump_of_the_clock() {
    let shop = Shop::open().await;
    let orders = waiting_orders(&shop).await;
    let paused = shop
        .platform()
        .pause(PauseScope::Everything, "an outage")
        .await;
    assert_eq!(paused.unwrap().cause, PauseCause::Request);
    let shop = shop.reopen_after(YEARS_MS).await;
    assert_eq!(causes(&shop).await, [PauseCause::Clock]);
    shop.platform()
        .resume(PauseScope::Everything)
        .await
        .unwrap();
    crate::step::release(shop.platform()).await.unwrap();
    shop.run_for(10 * 60_000).await;
    assert_eq!(shop.read(orders[0].id).await.state, OrderState::Closed);
}

#[tokio::test]
async fn an_idle_platform_that_runs_is_believed() {
    let shop = Shop::open().await;
    let mut shop = shop.reopen().await;
    for _ in 0..3 {
        shop.clock.advance(200 * DAY_MS);
        shop.platform().sweep().await.unwrap();
        assert_eq!(causes(&shop).await, []);
        shop = shop.reopen_after(200 * DAY_MS).await;
        assert_eq!(
            causes(&shop).await,
            [],
            "less than a year since the last sweep"
        );
    }
}

#[tokio::test]
async fn any_jump_is_believed_where_there_is_no_bound() {
    let mut shop = Shop::open().await;
    shop.config.clock_jump_max_ms = 0;
    let shop = shop.reopen().await;
    let orders = waiting_orders(&shop).await;
    let shop = shop.reopen_after(YEARS_MS).await;
    assert_eq!(causes(&shop).await, []);
    shop.run_for(10 * 60_000).await;
    assert_eq!(shop.read(orders[0].id).await.state, OrderState::Closed);
}

#[tokio::test]
async fn nothing_is_deleted_by_a_clock_that_may_be_wrong() {
    let shop = Shop::open().await;
    waiting_orders(&shop).await;
    shop.settle().await;
    let shop = shop.reopen_after(YEARS_MS).await;
    let mut pruner = Pruner::default();
    assert_eq!(pruner.prune(shop.platform()).await.unwrap(), 0);
    shop.platform()
        .resume(PauseScope::Everything)
        .await
        .unwrap();
    assert!(pruner.prune(shop.platform()).await.unwrap() > 0);
}
