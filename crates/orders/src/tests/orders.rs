//! Orders: creating, cancelling, extending, listing, idempotency keys.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use futures_util::future::FutureExt as _;

use crate::store::sql::query_scalar;
use crate::tests::shop::{START_MS, Shop};
use crate::tests::writer::{Gate, pass};
use crate::{CloseReason, Error, Idempotency, NewLine, OrderState};

#[tokio::test]
async fn an_order_holds_stock_and_a_cancelled_one_gives_it_back() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 3).await;
    assert_eq!(order.state, OrderState::Pending);
    assert_eq!((order.total_minor, order.payable_minor), (1_500, 1_500));
    assert_eq!(order.deadline_ms, i64::try_from(START_MS).unwrap() + 10_000);
    assert_eq!(shop.available(&tea).await, 7);
    let read = shop
        .platform()
        .order(&shop.merchant, order.id)
        .await
        .unwrap();
    assert_eq!(read, order);

    let cancelled = shop
        .platform()
        .cancel_order(&shop.merchant, order.id, CloseReason::Buyer)
        .await
        .unwrap();
    assert_eq!(cancelled.state, OrderState::Closed);
    assert_eq!(cancelled.close_reason, Some(CloseReason::Buyer));
    assert_eq!(shop.available(&tea).await, 10);

    let again = shop
        .platform()
        .cancel_order(&shop.merchant, order.id, CloseReason::Buyer)
        .await;
    assert_eq!(again.unwrap(), cancelled);
    let other = shop
        .platform()
        .cancel_order(&shop.merchant, order.id, CloseReason::Merchant)
        .await;
    assert!(matches!(
        other,
        Err(Error::OrderState {
            state: OrderState::Closed,
            ..
        })
    ));
    assert_eq!(shop.available(&tea).await, 10);

    let audit = shop
        .platform()
        .order_audit(&shop.merchant, order.id)
        .await
        .unwrap();
    let steps: Vec<_> = audit
        .iter()
        .map(|entry| (entry.action.as_str(), entry.to_state.as_deref()))
        .collect();
    assert_eq!(
        steps,
        [("create", Some("pending")), ("close", Some("closed"))]
    );
}

#[tokio::test]
async fn an_order_takes_all_its_stock_or_none() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let cake = shop.product(1).await;
    let mut new = Shop::new_order("A-1", tea.id, 2);
    new.lines.push(NewLine {
        product_id: cake.id,
        quantity: 2,
    });
    let refused = shop
        .platform()
        .create_order(&shop.merchant, new, None)
        .await;
    let Err(Error::InsufficientStock {
        id,
        available,
        wanted,
    }) = refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!((id, available, wanted), (cake.id, 1, 2));
    assert_eq!(shop.available(&tea).await, 10);
    // The number is free again.
    shop.order("A-1", &tea, 2).await;
}

#[tokio::test]
async fn a_failing_request_costs_the_others_of_its_commit_nothing() {
    let shop = Shop::open().await;
    let tea = shop.product(60).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..60 {
        // Every third order asks for more than there is, so it is undone between two that stay.
        let quantity = if n % 3 == 2 { 1_000 } else { 1 };
        let new = Shop::new_order(&format!("A-{n}"), tea.id, quantity);
        let (platform, merchant) = (shop.platform().clone(), shop.merchant.clone());
        tasks.spawn(async move { platform.create_order(&merchant, new, None).await });
    }
    let outcomes = tasks.join_all().await;
    let created = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(created, 40);
    assert_eq!(shop.available(&tea).await, 20);
    let timers: i64 = query_scalar("select count(*) from timer")
        .fetch_one(shop.platform().readers())
        .await
        .unwrap();
    assert_eq!(timers, 40);
}

#[tokio::test]
async fn a_merchant_order_number_is_used_once() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    shop.order("A-1", &tea, 1).await;
    let new = Shop::new_order("A-1", tea.id, 1);
    let again = shop
        .platform()
        .create_order(&shop.merchant, new, None)
        .await;
    assert!(matches!(again, Err(Error::Duplicate { what: "order", .. })));
    assert_eq!(shop.available(&tea).await, 9);
}

#[tokio::test]
async fn a_repeated_key_answers_the_same_even_when_the_stock_is_gone() {
    let shop = Shop::open().await;
    let tea = shop.product(2).await;
    let key = |body: &[u8]| Some(Idempotency::new("k-1", "POST /v1/orders", body).unwrap());
    let new = Shop::new_order("A-1", tea.id, 2);
    let create = |idempotency| {
        shop.platform()
            .create_order(&shop.merchant, new.clone(), idempotency)
    };
    let first = create(key(b"body")).await.unwrap();
    let second = create(key(b"body")).await.unwrap();
    assert!(!first.replayed);
    assert!(second.replayed);
    assert_eq!(first.value, second.value);
    assert_eq!(shop.available(&tea).await, 0);
    let other = create(key(b"other body")).await;
    assert!(matches!(other, Err(Error::IdempotencyKeyReused { .. })));
}

#[tokio::test]
async fn a_failed_request_leaves_its_key_free() {
    let shop = Shop::open().await;
    let tea = shop.product(1).await;
    let key = || Some(Idempotency::new("k-1", "POST /v1/orders", b"body").unwrap());
    let new = Shop::new_order("A-1", tea.id, 2);
    let refused = shop
        .platform()
        .create_order(&shop.merchant, new.clone(), key())
        .await;
    assert!(matches!(refused, Err(Error::InsufficientStock { .. })));
    shop.platform()
        .adjust_stock(&shop.merchant, tea.id, 1, None)
        .await
        .unwrap();
    let created = shop
        .platform()
        .create_order(&shop.merchant, new, key())
        .await;
    assert!(!created.unwrap().replayed);
}

#[tokio::test]
async fn a_deadline_moves_only_ahead_of_itself_and_of_the_clock() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    let extend = |deadline_ms| {
        shop.platform()
            .extend_order(&shop.merchant, order.id, deadline_ms)
    };
    let later = extend(order.deadline_ms + 5_000).await.unwrap();
    assert_eq!(later.deadline_ms, order.deadline_ms + 5_000);
    assert_eq!(later.version, 2);
    assert!(matches!(
        extend(order.deadline_ms).await,
        Err(Error::Invalid { .. })
    ));
    assert!(matches!(extend(i64::MAX).await, Err(Error::Invalid { .. })));
    shop.clock.advance(15_000);
    assert!(matches!(
        extend(order.deadline_ms + 60_000).await,
        Err(Error::DeadlineReached { .. })
    ));
}

#[tokio::test]
async fn orders_are_listed_by_state_and_page() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        shop.clock.advance(1);
        ids.push(shop.order(&format!("A-{n}"), &tea, 1).await.id);
    }
    let cancelled = ids[1];
    shop.platform()
        .cancel_order(&shop.merchant, cancelled, CloseReason::Merchant)
        .await
        .unwrap();
    let list = |state, after| shop.platform().orders(&shop.merchant, state, after, 3);

    let first = list(None, None).await.unwrap();
    let seen: Vec<_> = first.orders.iter().map(|order| order.id).collect();
    assert_eq!(seen, ids[..3]);
    let second = list(None, first.next).await.unwrap();
    let seen: Vec<_> = second.orders.iter().map(|order| order.id).collect();
    assert_eq!(seen, ids[3..]);
    assert_eq!(second.next, None);

    let closed = list(Some(OrderState::Closed), None).await.unwrap();
    assert_eq!(closed.orders.len(), 1);
    assert_eq!(closed.orders[0].id, cancelled);
    assert_eq!(closed.orders[0].lines.len(), 1);
}

#[tokio::test]
async fn another_merchant_sees_nothing() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    let other = "other".parse().unwrap();
    shop.platform()
        .create_merchant(&other, "Other")
        .await
        .unwrap();
    assert!(matches!(
        shop.platform().order(&other, order.id).await,
        Err(Error::NotFound { .. })
    ));
    let new = Shop::new_order("A-1", tea.id, 1);
    assert!(matches!(
        shop.platform().create_order(&other, new, None).await,
        Err(Error::NotFound {
            what: "product",
            ..
        })
    ));
    let cancelled = shop
        .platform()
        .cancel_order(&other, order.id, CloseReason::Merchant)
        .await;
    assert!(matches!(cancelled, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_stopped_platform_starts_where_it_was() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    let shop = shop.reopen().await;
    assert_eq!(
        shop.platform()
            .order(&shop.merchant, order.id)
            .await
            .unwrap(),
        order
    );
}

#[tokio::test]
async fn a_revocation_counts_also_when_its_caller_does_not_wait() {
    let shop = Shop::open().await;
    let platform = shop.platform();
    let new = platform.create_api_key(&shop.merchant, "register 3").await;
    let new = new.unwrap();
    let (say, heard) = channel();
    let (hold, wait) = channel();
    let gate: Gate = Arc::new(Mutex::new((say, wait)));
    let holding = platform.writer().run(gate, |_, gate| {
        Box::pin(async move {
            pass(gate);
            Ok(())
        })
    });
    let mut holding = std::pin::pin!(holding);
    assert!(holding.as_mut().now_or_never().is_none());
    heard.recv().unwrap();
    let revoked = platform.revoke_api_key(&shop.merchant, new.key.id);
    assert!(revoked.now_or_never().is_none());
    tokio::task::yield_now().await;
    // It was not revoked yet, and is remembered.
    let known = platform.authenticate(&new.secret).await.unwrap();
    assert_eq!(known, Some(shop.merchant.clone()));
    drop(hold);
    holding.await.unwrap();
    // Its turn comes after the revocation's.
    platform.mark_time().await.unwrap();
    tokio::task::yield_now().await;
    assert_eq!(platform.authenticate(&new.secret).await.unwrap(), None);
}

#[tokio::test]
async fn a_key_speaks_for_its_merchant_until_it_is_revoked() {
    let shop = Shop::open().await;
    let new = shop
        .platform()
        .create_api_key(&shop.merchant, "register 3")
        .await
        .unwrap();
    let authenticate = || shop.platform().authenticate(&new.secret);
    assert_eq!(authenticate().await.unwrap(), Some(shop.merchant.clone()));
    assert_eq!(shop.platform().authenticate("dtk_00").await.unwrap(), None);
    shop.platform()
        .revoke_api_key(&shop.merchant, new.key.id)
        .await
        .unwrap();
    assert_eq!(authenticate().await.unwrap(), None);
}
