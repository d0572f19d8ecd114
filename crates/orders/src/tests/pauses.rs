//! Pauses: whatever their scopes and their order, what waited is released, and nothing is closed before.

use tokio::sync::watch;

use crate::store::sql::query;
use crate::tests::flows::nothing_waits;
use crate::tests::shop::Shop;
use crate::timer::pause;
use crate::{CloseReason, Error, OrderState, PauseScope, PauseState, Product, step};

/// A shop that releases ten timers a second.
async fn slow_shop() -> Shop {
    let mut shop = Shop::open().await;
    shop.config.resume_per_second = 10;
    shop.reopen().await
}

async fn pause_all(shop: &Shop, scopes: &[PauseScope]) {
    for scope in scopes {
        let paused = shop.platform().pause(scope.clone(), "an outage").await;
        assert_eq!(paused.unwrap().state, PauseState::Paused);
    }
}

/// Orders whose deadlines have come while they were held; every other one has an attempt.
async fn overdue_orders(shop: &Shop, tea: &Product, count: usize) {
    for n in 0..count {
        let order = shop.order(&format!("A-{n}"), tea, 1).await;
        if n % 2 == 0 {
            shop.attempt(&order).await;
        }
    }
    shop.run_for(60_000).await;
}

async fn parked(shop: &Shop) -> i64 {
    shop.number("select count(*) from timer where parked = 1")
        .await
}

async fn nothing_is_broken(shop: &Shop) {
    let findings = shop.platform().verify().await.unwrap();
    let broken: Vec<_> = findings.iter().filter(|each| each.broken > 0).collect();
    assert!(broken.is_empty(), "{broken:?}");
}

#[tokio::test]
async fn two_pauses_resumed_during_each_others_walks_release_everything() {
    let shop = slow_shop().await;
    let tea = shop.product(100).await;
    let merchant = PauseScope::Merchant(shop.merchant.clone());
    pause_all(&shop, &[PauseScope::Everything, merchant.clone()]).await;
    overdue_orders(&shop, &tea, 35).await;
    assert_eq!(shop.available(&tea).await, 65);

    let platform = shop.platform();
    platform.resume(PauseScope::Everything).await.unwrap();
    let walk = step::begin_walk(platform).await.unwrap().unwrap();
    // It passes timers that the other pause holds, which then ends too.
    let mut walk = step::walk_on(platform, walk).await.unwrap();
    platform.resume(merchant.clone()).await.unwrap();
    while let Some(at) = walk {
        walk = step::walk_on(platform, at).await.unwrap();
    }
    let pauses = platform.pauses().await.unwrap();
    let left: Vec<_> = pauses
        .iter()
        .map(|pause| (&pause.scope, pause.state))
        .collect();
    assert_eq!(left, [(&merchant, PauseState::Resuming)]);
    step::release(platform).await.unwrap();
    assert_eq!(parked(&shop).await, 0);
    assert_eq!(platform.pauses().await.unwrap(), []);
    shop.run_for(60_000).await;
    assert_eq!(shop.available(&tea).await, 100);
    nothing_is_broken(&shop).await;
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn a_walk_that_outlives_its_process_ends_no_pause_of_another() {
    let mut shop = slow_shop().await;
    let tea = shop.product(100).await;
    let scopes = [
        PauseScope::Account(shop.account),
        PauseScope::Merchant(shop.merchant.clone()),
        PauseScope::Everything,
    ];
    pause_all(&shop, &scopes).await;
    overdue_orders(&shop, &tea, 20).await;
    let [account, merchant, everything] = scopes;
    shop.platform().resume(account).await.unwrap();
    let first = step::begin_walk(shop.platform()).await.unwrap().unwrap();
    let first = step::walk_on(shop.platform(), first).await.unwrap();
    shop.crash().await;
    let platform = shop.platform();
    step::release(platform).await.unwrap();
    platform.resume(merchant).await.unwrap();
    let second = step::begin_walk(platform).await.unwrap();
    let mut walk = first;
    while let Some(at) = walk {
        walk = step::walk_on(platform, at).await.unwrap();
    }
    let states: Vec<_> = platform.pauses().await.unwrap();
    let states: Vec<_> = states.iter().map(|pause| pause.state).collect();
    assert_eq!(states, [PauseState::Paused, PauseState::Resuming]);
    assert!(second.is_some());
    assert!(parked(&shop).await > 20, "the third pause holds everything");
    // The last one is resumed, paused and resumed again.
    platform.resume(everything.clone()).await.unwrap();
    pause_all(&shop, std::slice::from_ref(&everything)).await;
    step::release(platform).await.unwrap();
    assert!(parked(&shop).await > 20);
    platform.resume(everything).await.unwrap();
    step::release(platform).await.unwrap();
    assert_eq!(parked(&shop).await, 0);
    shop.run_for(60_000).await;
    assert_eq!(shop.available(&tea).await, 100);
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn resumes_one_after_the_other_release_no_faster() {
    let shop = slow_shop().await;
    let tea = shop.product(100).await;
    pause_all(&shop, &[PauseScope::Everything]).await;
    for n in 0..20 {
        shop.order(&format!("A-{n}"), &tea, 1).await;
    }
    shop.run_for(10_000).await;
    let platform = shop.platform();
    platform.resume(PauseScope::Everything).await.unwrap();
    let walk = step::begin_walk(platform).await.unwrap().unwrap();
    step::walk_on(platform, walk).await.unwrap();
    // Ten are armed; the next walk arms the others behind them.
    pause_all(&shop, &[PauseScope::Everything]).await;
    platform.resume(PauseScope::Everything).await.unwrap();
    step::release(platform).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        shop.run_for(1_000).await;
        seen.push(shop.available(&tea).await);
    }
    assert_eq!(seen, [81, 91, 100]);
}

#[tokio::test]
async fn a_walk_that_fails_is_walked_again() {
    let shop = slow_shop().await;
    let tea = shop.product(10).await;
    pause_all(&shop, &[PauseScope::Everything]).await;
    let order = shop.order("A-1", &tea, 1).await;
    shop.run_for(10_000).await;
    // The first walk cannot write; a second later it can.
    let refuse_until_ms = shop.now_ms() + 1_500;
    let platform = shop.platform();
    let refused = platform.writer().run(refuse_until_ms, |tx, until_ms| {
        Box::pin(async move {
            let refuse = format!(
                "create trigger refuse before update of hop on timer when new.next_fire_ms < {until_ms}
                 begin select raise(abort, 'refused'); end"
            );
            query(refuse).execute(tx.conn()).await?;
            Ok(())
        })
    });
    refused.await.unwrap();
    platform.resume(PauseScope::Everything).await.unwrap();
    let (ending, ended) = watch::channel(false);
    let resumer = tokio::spawn(pause::run(platform.clone(), ended));
    while shop.clock.next_sleeper_ms().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(parked(&shop).await, 1);
    shop.clock.advance_to(shop.clock.next_sleeper_ms().unwrap());
    while !platform.pauses().await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    ending.send(true).unwrap();
    resumer.await.unwrap();
    shop.run_for(1_000).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
}

#[tokio::test]
async fn a_pause_holds_orders_that_are_closing() {
    let scopes = |shop: &Shop| {
        [
            PauseScope::Everything,
            PauseScope::Merchant(shop.merchant.clone()),
            PauseScope::Account(shop.account),
        ]
    };
    for n in 0..3 {
        let shop = Shop::open().await;
        let scope = scopes(&shop)[n].clone();
        let tea = shop.product(10).await;
        let order = shop.order("A-1", &tea, 1).await;
        shop.attempt(&order).await;
        let reason = CloseReason::Buyer;
        let cancelled = shop
            .platform()
            .cancel_order(&shop.merchant, order.id, reason);
        assert_eq!(cancelled.await.unwrap().state, OrderState::Closing);
        pause_all(&shop, std::slice::from_ref(&scope)).await;
        shop.run_for(3_600_000).await;
        assert_eq!(shop.gateway.asked(), 0, "{scope:?}");
        assert_eq!(shop.read(order.id).await.state, OrderState::Closing);
        assert_eq!(
            parked(&shop).await,
            2,
            "the order's timer and its attempt's"
        );
        nothing_is_broken(&shop).await;
        shop.platform().resume(scope).await.unwrap();
        step::release(shop.platform()).await.unwrap();
        shop.run_for(10_000).await;
        assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
        nothing_waits(&shop).await;
    }
}

#[tokio::test]
async fn the_last_answer_about_an_attempt_closes_no_order_that_a_pause_holds() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    shop.attempt(&order).await;
    let merchant = &shop.merchant;
    let cancelled = shop
        .platform()
        .cancel_order(merchant, order.id, CloseReason::Buyer);
    cancelled.await.unwrap();
    shop.pump().await;
    // The question is under way when the pause comes.
    let mut tasks = tokio::task::JoinSet::new();
    let (platform, broker) = (shop.platform().clone(), shop.broker.clone());
    shop.gates.close();
    shop.gates.spawn(&mut tasks, async move {
        let topic = crate::Topic::Timers(crate::TimerKind::OrderClosing);
        crate::tests::shop::answer(&platform, &broker, topic, 1).await;
    });
    shop.gates.quiesce().await;
    assert_eq!(shop.gates.waiting(), 1, "at the gateway");
    pause_all(&shop, &[PauseScope::Merchant(shop.merchant.clone())]).await;
    shop.gates.open_all();
    tasks.join_all().await;
    let held = shop.read(order.id).await;
    assert_eq!((held.state, held.live_attempts), (OrderState::Closing, 0));
    shop.run_for(60_000).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Closing);
    let resumed = shop
        .platform()
        .resume(PauseScope::Merchant(shop.merchant.clone()));
    resumed.await.unwrap();
    step::release(shop.platform()).await.unwrap();
    shop.run_for(2_000).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn money_pays_an_order_that_a_pause_holds() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    let attempt = shop.attempt(&order).await.id.to_string();
    pause_all(&shop, &[PauseScope::Account(shop.account)]).await;
    let paid = shop.gateway.pay(&attempt, None, false).unwrap();
    shop.run_for(60_000).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Pending);
    shop.report(&attempt, &paid).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Paid);
    nothing_is_broken(&shop).await;
}

#[tokio::test]
async fn a_pause_and_its_resume_can_be_repeated() {
    let shop = Shop::open().await;
    let platform = shop.platform();
    let scope = PauseScope::Account(shop.account);
    let unknown = platform.resume(scope.clone()).await;
    assert!(matches!(
        unknown,
        Err(Error::NotFound { what: "pause", .. })
    ));
    pause_all(&shop, std::slice::from_ref(&scope)).await;
    let since_ms = platform.pauses().await.unwrap()[0].since_ms;
    shop.clock.advance(5_000);
    pause_all(&shop, std::slice::from_ref(&scope)).await;
    assert_eq!(platform.pauses().await.unwrap()[0].since_ms, since_ms);
    for wanted in [
        PauseState::Resuming,
        PauseState::Resuming,
        PauseState::Ended,
    ] {
        if wanted == PauseState::Ended {
            step::release(platform).await.unwrap();
        }
        assert_eq!(platform.resume(scope.clone()).await.unwrap().state, wanted);
    }
    let resumes = "select count(*) from audit where action = 'resume'";
    assert_eq!(
        shop.number(resumes).await,
        1,
        "a repetition changes nothing"
    );
    assert_eq!(platform.pauses().await.unwrap(), []);
    pause_all(&shop, &[scope]).await;
    let again = &platform.pauses().await.unwrap()[0];
    assert_eq!(again.since_ms, since_ms + 5_000);
}

#[tokio::test]
async fn a_timer_that_is_parked_without_a_pause_is_found() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    shop.pump().await;
    let parked = shop.platform().writer().run((), |tx, ()| {
        Box::pin(async move {
            query("update timer set parked = 1")
                .execute(tx.conn())
                .await?;
            Ok(())
        })
    });
    parked.await.unwrap();
    let swept = shop.platform().sweep().await.unwrap();
    assert_eq!((swept.parked, swept.timers, swept.missing), (1, 0, 0));
    shop.run_for(10_000).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
    nothing_waits(&shop).await;
}
