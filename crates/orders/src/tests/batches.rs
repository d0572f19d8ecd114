//! Batches with one bad part, which must cost the others nothing but time.

use crate::store::sql::query;
use crate::tests::coupons::{coupons, rule};
use crate::tests::shop::Shop;
use crate::{OrderState, TimerKind, Topic, step};

/// Answers all messages of a topic that can be delivered; gives back the bodies of those that failed.
async fn failed_of(shop: &Shop, topic: Topic) -> Vec<String> {
    let name = topic.name("duetime");
    let incoming = shop.broker.take(&name, "platform", 512);
    let handles: Vec<_> = incoming.iter().map(|each| each.handle.clone()).collect();
    shop.broker.settle(&name, "platform", &handles);
    let answered = step::handle(shop.platform(), topic, &incoming).await;
    let failed = incoming
        .iter()
        .zip(answered)
        .filter(|(_, answered)| answered.is_err());
    failed
        .map(|(incoming, _)| String::from_utf8_lossy(&incoming.body).into_owned())
        .collect()
}

#[tokio::test]
async fn a_batch_with_one_bad_event_decides_the_other_coupons() {
    let shop = Shop::open().await;
    let tea = shop.product(100).await;
    rule(&shop, 100, 0).await;
    let mut paid = Vec::new();
    for n in 0..20 {
        let order = shop.order(&format!("A-{n}"), &tea, 1).await;
        shop.pay(&order).await;
        paid.push(order.id);
    }
    let bad = paid[7];
    shop.platform()
        .writer()
        .run(bad, |tx, id| {
            Box::pin(async move {
                query("update coupon_due set since_ms = 1 where order_id = ?")
                    .bind(*id)
                    .execute(tx.conn())
                    .await?;
                let refuse =
                    "create trigger refuse before delete on coupon_due when old.since_ms = 1
                              begin select raise(abort, 'refused'); end";
                query(refuse).execute(tx.conn()).await?;
                Ok(())
            })
        })
        .await
        .unwrap();
    shop.pump().await;
    // An order's events come one at a time: before that it was paid, its creation, its attempt and its payment.
    for _ in 0..3 {
        assert!(failed_of(&shop, Topic::Events).await.is_empty());
    }
    let failed = failed_of(&shop, Topic::Events).await;
    assert_eq!(failed.len(), 1);
    assert!(failed[0].contains(&bad.to_string()), "{failed:?}");
    assert_eq!(coupons(&shop, "buyer-1").await.len(), 19);
}

#[tokio::test]
async fn a_batch_with_one_bad_order_closes_the_others() {
    let shop = Shop::open().await;
    let tea = shop.product(100).await;
    let cake = shop.product(1).await;
    let bad = shop.order("bad", &cake, 1).await;
    for n in 0..40 {
        shop.order(&format!("A-{n}"), &tea, 1).await;
    }
    // Its release would bring more into stock than was ever put in, which a CHECK refuses.
    shop.platform()
        .writer()
        .run(bad.id, |tx, id| {
            Box::pin(async move {
                query("update hold set quantity = 2 where order_id = ?")
                    .bind(*id)
                    .execute(tx.conn())
                    .await?;
                Ok(())
            })
        })
        .await
        .unwrap();
    shop.pump().await;
    shop.clock.advance(10_000);
    let topic = Topic::Timers(TimerKind::OrderDeadline);
    let failed = failed_of(&shop, topic).await;
    assert_eq!(failed.len(), 1);
    assert!(failed[0].contains(&bad.id.to_string()), "{failed:?}");
    assert_eq!(shop.available(&tea).await, 100);
    assert_eq!(shop.read(bad.id).await.state, OrderState::Pending);
}

pub(crate) async fn dangle(tx: &mut crate::store::Tx) -> crate::Result<()> {
    let dangling = "pragma defer_foreign_keys = on;
                    insert into hold (order_id, line_no, merchant_id, product_id, name, unit_price_minor, quantity, state)
                        values (x'00', 1, 'default', x'00', 'n', 1, 1, 1)";
    Ok(tx.conn().run_all(dangling)?)
}

#[tokio::test]
async fn a_commit_that_dies_costs_only_the_request_to_blame() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let (platform, merchant) = (shop.platform().clone(), shop.merchant.clone());
        let new = Shop::new_order(&format!("A-{n}"), tea.id, 1);
        let order = async move { platform.create_order(&merchant, new, None).await.is_ok() };
        // The tenth request violates a foreign key that is only checked when the whole group commits.
        let platform = shop.platform().clone();
        let dangling = async move {
            let dangling = platform.writer().run((), |tx, ()| Box::pin(dangle(tx)));
            dangling.await.is_ok()
        };
        if n == 10 {
            tasks.spawn(dangling);
        } else {
            tasks.spawn(order);
        }
    }
    let outcomes = tasks.join_all().await;
    assert_eq!(outcomes.iter().filter(|ok| **ok).count(), 10);
    assert_eq!(shop.number("select count(*) from orders").await, 10);
    assert_eq!(shop.number("select count(*) from timer").await, 10);
    assert_eq!(shop.number("select count(*) from hold").await, 10);
}
