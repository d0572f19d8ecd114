//! Webhooks: each event arrives, signed and in order, whatever the receiver does.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::step::fan_out;
use crate::store::webhooks;
use crate::tests::shop::Shop;
use crate::webhook::deliver::{DELAYS_MS, FAILING_MS_MAX};
use crate::webhook::fan_out::catch_up;
use crate::{
    Delivery, DeliveryState, Error, EventType, NewWebhook, TimerKind, Webhook, WebhookChange,
    WebhookId, WebhookRequest, WebhookSender, WebhookState,
};

/// What the receiver answers.
enum Answers {
    Status(u16),
    /// It fails or succeeds as drawn, and may take an event without saying so.
    Drawn(Box<StdRng>),
    /// It never answers.
    Nothing,
}

/// A receiver of webhooks in memory.
#[derive(Clone)]
struct Receiver {
    state: Arc<Mutex<State>>,
}

struct State {
    answers: Answers,
    /// What came, in its sequence, and whether it was taken.
    came: Vec<(WebhookRequest, bool)>,
}

impl Receiver {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn answer(&self, answers: Answers) {
        self.state().answers = answers;
    }

    /// The types of what came.
    fn types(&self) -> Vec<String> {
        let state = self.state();
        let types = state
            .came
            .iter()
            .map(|(request, _)| member(request, "type"));
        types.collect()
    }

    fn count(&self) -> usize {
        self.state().came.len()
    }
}

fn member(request: &WebhookRequest, name: &str) -> String {
    let event: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    event[name].as_str().unwrap().to_owned()
}

#[async_trait]
impl WebhookSender for Receiver {
    async fn send(&self, request: WebhookRequest) -> Result<u16, String> {
        let answer = {
            let mut state = self.state();
            let answer = match &mut state.answers {
                Answers::Status(status) => Some(Ok(*status)),
                Answers::Drawn(random) => Some(match random.random_range(0..6) {
                    0 => Ok(500),
                    1 => Err("reset".to_owned()),
                    2 => Ok(302),
                    _ => Ok(204),
                }),
                Answers::Nothing => None,
            };
            let taken = matches!(answer, Some(Ok(200..300)));
            state.came.push((request, taken));
            answer
        };
        match answer {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

/// A shop with an endpoint that takes the types.
async fn open(types: &[EventType]) -> (Shop, Receiver, Webhook) {
    let shop = Shop::open().await;
    let receiver = connect(&shop);
    let new = NewWebhook {
        url: "https://shop.example/webhooks?token=7".to_owned(),
        types: types.to_vec(),
    };
    let made = shop.platform().create_webhook(&shop.merchant, new).await;
    let (webhook, secret) = made.unwrap();
    assert!(secret.starts_with("whsec_"));
    (shop, receiver, webhook)
}

fn connect(shop: &Shop) -> Receiver {
    let state = State {
        answers: Answers::Status(200),
        came: Vec::new(),
    };
    let receiver = Receiver {
        state: Arc::new(Mutex::new(state)),
    };
    shop.platform()
        .set_webhook_sender(Arc::new(receiver.clone()));
    receiver
}

async fn deliveries(shop: &Shop, id: WebhookId) -> Vec<Delivery> {
    let place = (None, 200);
    let listed = shop
        .platform()
        .webhook_deliveries(&shop.merchant, id, None, place);
    listed.await.unwrap()
}

async fn webhook(shop: &Shop, id: WebhookId) -> Webhook {
    shop.platform().webhook(&shop.merchant, id).await.unwrap()
}

async fn verify(shop: &Shop) {
    for finding in shop.platform().verify().await.unwrap() {
        assert_eq!(finding.broken, 0, "{}", finding.rule);
    }
}

async fn switch(shop: &Shop, id: WebhookId, active: bool) {
    let change = WebhookChange {
        active: Some(active),
        ..WebhookChange::default()
    };
    let changed = shop.platform().change_webhook(&shop.merchant, id, change);
    changed.await.unwrap();
}

#[tokio::test]
async fn events_of_the_types_arrive_in_order_and_once() {
    let types = [EventType::OrderCreated, EventType::OrderPaid];
    let (shop, receiver, webhook) = open(&types).await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    shop.pay(&order).await;
    shop.settle().await;
    assert_eq!(receiver.types(), ["order.created", "order.paid"]);
    let listed = deliveries(&shop, webhook.id).await;
    assert_eq!(listed.len(), 2);
    assert!(listed[0].place > listed[1].place, "the latest first");
    for delivery in &listed {
        assert_eq!(delivery.state, DeliveryState::Delivered);
        assert_eq!(delivery.log[0].status, Some(200));
    }
    let first = receiver.state().came[0].0.clone();
    assert_eq!(first.id, listed[1].event_id);
    assert_eq!(first.id, member(&first, "id"));
    assert_eq!(first.timestamp_s, 1_800_000_000);
    verify(&shop).await;
}

#[tokio::test]
async fn a_failed_delivery_is_tried_again_until_it_is_given_up() {
    let (shop, receiver, webhook) = open(&[EventType::OrderCreated, EventType::OrderClosed]).await;
    let tea = shop.product(10).await;
    receiver.answer(Answers::Status(500));
    let begun_ms = shop.now_ms();
    shop.order("A-1", &tea, 1).await;
    shop.run_for(11_000).await;
    // What comes after it waits.
    let states: Vec<_> = deliveries(&shop, webhook.id)
        .await
        .iter()
        .map(|delivery| delivery.state)
        .collect();
    assert_eq!(states, [DeliveryState::Queued, DeliveryState::Due]);
    let total_ms: i64 = DELAYS_MS.iter().sum();
    shop.run_for(u64::try_from(total_ms).unwrap()).await;
    let listed = deliveries(&shop, webhook.id).await;
    let first = &listed[1];
    assert_eq!(first.state, DeliveryState::GivenUp);
    assert_eq!(listed[0].state, DeliveryState::Due, "the next one's turn");
    let mut due_ms = begun_ms;
    for (number, tried) in first.log.iter().enumerate() {
        let late_ms = tried.at_ms - due_ms;
        assert!(
            (-2_000..5_000).contains(&late_ms),
            "try {number}: {late_ms}"
        );
        due_ms = tried.at_ms + DELAYS_MS.get(number).copied().unwrap_or(0);
    }
    assert_eq!(first.log.len(), DELAYS_MS.len() + 1);
    receiver.answer(Answers::Status(200));
    shop.run_for(3_600_000).await;
    let listed = deliveries(&shop, webhook.id).await;
    assert_eq!(listed[0].state, DeliveryState::Delivered);
    verify(&shop).await;
}

#[tokio::test]
async fn an_endpoint_that_fails_for_days_is_switched_off() {
    let (shop, receiver, made) = open(&[]).await;
    let tea = shop.product(10).await;
    receiver.answer(Answers::Status(503));
    shop.order("A-1", &tea, 1).await;
    let days_ms = u64::try_from(FAILING_MS_MAX).unwrap();
    shop.run_for(days_ms + 3_600_000 * 25).await;
    assert_eq!(webhook(&shop, made.id).await.state, WebhookState::Disabled);
    let page = shop.platform().events(&shop.merchant, 0, 200).await;
    let events = page.unwrap().events;
    let disabled = events
        .iter()
        .filter(|event| event.body.contains("\"webhook.disabled\""));
    assert_eq!(disabled.count(), 1);
    let audited = shop.number("select count(*) from audit where action = 'disable'");
    assert_eq!(audited.await, 1);
    let shown = shop.number("select count(*) from audit where detail like '%token%'");
    assert_eq!(shown.await, 0, "the query may hold a secret");
    let page = shop.platform().events(&shop.merchant, 0, 200).await;
    let events = page.unwrap().events;
    assert!(!events.iter().any(|event| event.body.contains("token=7")));
    let open = shop.number("select count(*) from webhook_delivery where state in (1, 2)");
    assert_eq!(open.await, 0);
    // Switched on again, it gets what happens from then on.
    let before = receiver.count();
    receiver.answer(Answers::Status(200));
    switch(&shop, made.id, true).await;
    shop.settle().await;
    assert_eq!(receiver.count(), before);
    shop.order("A-2", &tea, 1).await;
    shop.settle().await;
    assert_eq!(receiver.count(), before + 1);
    verify(&shop).await;
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_switched_off_at_once() {
    let (shop, receiver, made) = open(&[EventType::OrderCreated]).await;
    let tea = shop.product(10).await;
    receiver.answer(Answers::Status(410));
    shop.order("A-1", &tea, 1).await;
    shop.settle().await;
    assert_eq!(webhook(&shop, made.id).await.state, WebhookState::Disabled);
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn an_endpoint_that_is_off_or_deleted_gets_nothing() {
    let (shop, receiver, made) = open(&[EventType::OrderCreated]).await;
    let tea = shop.product(10).await;
    receiver.answer(Answers::Status(500));
    shop.order("A-1", &tea, 1).await;
    shop.settle().await;
    switch(&shop, made.id, false).await;
    shop.order("A-2", &tea, 1).await;
    shop.run_for(60_000).await;
    assert_eq!(receiver.count(), 1);
    let listed = deliveries(&shop, made.id).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].state, DeliveryState::GivenUp);
    let platform = shop.platform();
    let deleted = platform.delete_webhook(&shop.merchant, made.id).await;
    deleted.unwrap();
    let gone = platform.webhook(&shop.merchant, made.id).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })));
    assert!(platform.webhooks(&shop.merchant).await.unwrap().is_empty());
    let secrets = shop.number("select count(*) from webhook where length(secret) > 0");
    assert_eq!(secrets.await, 0);
    // Its row goes with its last delivery.
    shop.run_for(8 * 24 * 3_600_000).await;
    let mut pruner = crate::timer::prune::Pruner::default();
    pruner.prune(platform).await.unwrap();
    assert_eq!(shop.number("select count(*) from webhook").await, 0);
}

#[tokio::test]
async fn both_secrets_sign_while_they_overlap() {
    let (shop, receiver, made) = open(&[EventType::OrderCreated]).await;
    let tea = shop.product(10).await;
    let platform = shop.platform();
    let rotated = platform.rotate_webhook_secret(&shop.merchant, made.id, 60_000);
    rotated.await.unwrap();
    shop.order("A-1", &tea, 1).await;
    shop.settle().await;
    shop.run_for(61_000).await;
    shop.order("A-2", &tea, 1).await;
    shop.settle().await;
    let state = receiver.state();
    let signatures: Vec<_> = state
        .came
        .iter()
        .map(|(request, _)| request.signature.split(' ').count())
        .collect();
    assert_eq!(signatures, [2, 1]);
}

#[tokio::test]
async fn what_was_delivered_is_sent_again_on_request_under_the_same_id() {
    let (shop, receiver, made) = open(&[EventType::OrderCreated]).await;
    let tea = shop.product(10).await;
    shop.order("A-1", &tea, 1).await;
    shop.settle().await;
    let id = deliveries(&shop, made.id).await[0].id;
    let platform = shop.platform();
    for _ in 0..2 {
        let again = platform.resend_webhook(&shop.merchant, made.id, id).await;
        assert_eq!(again.unwrap().state, DeliveryState::Due);
    }
    shop.settle().await;
    {
        let state = receiver.state();
        let ids: BTreeSet<_> = state.came.iter().map(|(request, _)| &request.id).collect();
        assert_eq!((state.came.len(), ids.len()), (2, 1));
    }
    assert_eq!(deliveries(&shop, made.id).await[0].log.len(), 2);
    verify(&shop).await;
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_costs_a_try() {
    let (shop, receiver, made) = open(&[EventType::OrderCreated]).await;
    let tea = shop.product(10).await;
    receiver.answer(Answers::Nothing);
    shop.order("A-1", &tea, 1).await;
    {
        let mut settling = pin!(shop.settle());
        loop {
            tokio::select! {
                biased;
                () = &mut settling => break,
                () = tokio::task::yield_now() => shop.clock.advance(100),
            }
        }
    }
    let tried = &deliveries(&shop, made.id).await[0].log[0];
    assert!(tried.error.as_ref().unwrap().contains("15 s"), "{tried:?}");
    assert!(tried.took_ms >= 15_000);
}

#[tokio::test]
async fn the_sweep_waits_for_no_receiver_and_publishes_lost_messages_again() {
    let (shop, receiver, _) = open(&[EventType::OrderCreated]).await;
    let tea = shop.product(10).await;
    shop.order("A-1", &tea, 1).await;
    fan_out(shop.platform()).await.unwrap();
    shop.pump().await;
    shop.broker.lose_everything();
    shop.clock.advance(121_000);
    let drained = shop.platform().drained();
    for kind in TimerKind::ALL {
        drained.set(kind, shop.now_ms());
    }
    receiver.answer(Answers::Nothing);
    let swept = shop.platform().sweep().await.unwrap();
    assert_eq!(swept.timers, 1);
    assert_eq!(receiver.count(), 0);
    receiver.answer(Answers::Status(200));
    shop.run_for(2_000).await;
    assert_eq!(receiver.types(), ["order.created"]);
}

#[tokio::test]
async fn types_that_change_while_events_are_turned_into_deliveries_count() {
    let (shop, receiver, made) = open(&[]).await;
    let tea = shop.product(10).await;
    shop.order("A-1", &tea, 1).await;
    let platform = shop.platform();
    let read = webhooks::active_of(platform.readers(), &shop.merchant).await;
    let (before, seen) = read.unwrap().remove(0);
    let change = WebhookChange {
        types: Some(vec![EventType::OrderPaid]),
        ..WebhookChange::default()
    };
    let changed = platform.change_webhook(&shop.merchant, made.id, change);
    changed.await.unwrap();
    assert_eq!(catch_up(platform, &before, seen).await.unwrap(), 0);
    shop.settle().await;
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn a_crash_loses_no_delivery() {
    let (mut shop, _, made) = open(&[EventType::OrderCreated, EventType::OrderClosed]).await;
    let tea = shop.product(10).await;
    for n in 0..5 {
        shop.order(&format!("A-{n}"), &tea, 1).await;
    }
    shop.crash().await;
    let receiver = connect(&shop);
    shop.run_for(20_000).await;
    assert_eq!(receiver.count(), 10);
    assert_eq!(deliveries(&shop, made.id).await.len(), 10);
}

/// Whatever the receiver answers, no later event of an order is sent before the earlier one was taken or given up.
#[tokio::test]
async fn events_of_an_order_keep_their_order_with_any_receiver() {
    for seed in 0..12 {
        let (shop, receiver, made) = open(&[]).await;
        receiver.answer(Answers::Drawn(Box::new(StdRng::seed_from_u64(seed))));
        let mut random = StdRng::seed_from_u64(1_000 + seed);
        let tea = shop.product(100).await;
        for n in 0..6 {
            let order = shop.order(&format!("A-{n}"), &tea, 1).await;
            match random.random_range(0..3) {
                0 => drop(shop.pay(&order).await),
                1 => drop(shop.attempt(&order).await),
                _ => {}
            }
            shop.run_for(random.random_range(0..400_000)).await;
        }
        shop.run_for(4 * 24 * 3_600_000).await;
        let listed = deliveries(&shop, made.id).await;
        let open = |delivery: &&Delivery| delivery.ended_ms.is_none();
        assert_eq!(listed.iter().filter(open).count(), 0, "seed {seed}");
        check_order(&receiver, &listed, seed);
        verify(&shop).await;
    }
}

fn check_order(receiver: &Receiver, listed: &[Delivery], seed: u64) {
    let places: BTreeMap<&str, i64> = listed
        .iter()
        .map(|delivery| (delivery.event_id.as_str(), delivery.place))
        .collect();
    let given_up: BTreeSet<&str> = listed
        .iter()
        .filter(|delivery| delivery.state == DeliveryState::GivenUp)
        .map(|delivery| delivery.event_id.as_str())
        .collect();
    let state = receiver.state();
    let mut last: BTreeMap<String, (&str, bool)> = BTreeMap::new();
    for (request, taken) in &state.came {
        let subject = member(request, "subject");
        let id = request.id.as_str();
        if let Some((before, before_taken)) = last.get(&subject)
            && *before != id
        {
            assert!(places[before] < places[id], "seed {seed}: {subject}");
            let ended = *before_taken || given_up.contains(before);
            assert!(
                ended,
                "seed {seed}: {id} of {subject} came before {before} had ended"
            );
        }
        last.insert(subject, (id, *taken));
    }
    let ids: BTreeSet<&str> = state
        .came
        .iter()
        .map(|(request, _)| request.id.as_str())
        .collect();
    assert_eq!(ids.len(), listed.len(), "seed {seed}: each came");
}
