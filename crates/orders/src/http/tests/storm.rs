//! Simulates buyers who pay, pay late, pay twice and cancel at a gateway full of faults, and reconciles the money
//! afterwards.

use std::time::Duration;

use axum::Router;
use broker::clock::{Clock as _, ManualClock};
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::rig::{Reply, call_router};
use super::{Api, Call};
use crate::ids::MerchantId;
use crate::store::sql::query_scalar;
use gateway::simulator::{AttemptPlan, Faults, PayRequest, Simulator, SimulatorConfig};

const BUYERS: usize = 120;
/// How long after its creation each order is due, in ms.
const DEADLINE_MS: u64 = 60_000;
/// How long the whole test may take, on the machine's own clock.
const PATIENCE: Duration = Duration::from_mins(2);

/// What a buyer does.
#[derive(Clone, Copy)]
enum Fate {
    Pays,
    PaysInTheLastInstant,
    PaysAfterTheClose,
    CancelsAndPays,
    Leaves,
    PaysTwice,
}

const FATES: [Fate; 6] = [
    Fate::Pays,
    Fate::PaysInTheLastInstant,
    Fate::PaysAfterTheClose,
    Fate::CancelsAndPays,
    Fate::Leaves,
    Fate::PaysTwice,
];

/// The faults of the gateway: each occurs at about every sixth attempt.
fn faults() -> Faults {
    Faults {
        slow_answer: 0.1,
        slow_answer_ms: 1_500,
        create_refused: 0.05,
        create_unreached: 0.15,
        create_unknown: 0.15,
        query_unknown: 0.3,
        close_unknown: 0.3,
        refund_unknown: 0.3,
        slow_payment: 0.3,
        paid_while_closing: 0.3,
        callback_lost: 0.3,
        callback_duplicated: 0.3,
        callback_late: 0.3,
        callback_late_ms: 70_000,
        callback_reordered: 0.2,
        wrong_amount: 0.1,
        wrong_currency: 0.1,
        slow_refund: 0.3,
        refund_no_balance: 0.3,
        ..Faults::default()
    }
}

#[derive(Clone)]
struct Buyer {
    router: Router,
    clock: ManualClock,
    simulator: Simulator,
    product_id: String,
    number: usize,
}

impl Buyer {
    async fn post(&self, path: &str, key: &str, body: Value) -> Reply {
        let key = format!("{key}-{}", self.number);
        let call = Call::new(Method::POST, path).json(&body);
        call_router(&self.router, call.header("idempotency-key", &key)).await
    }

    /// Starts an attempt; returns its id, unless the order accepts no attempt.
    async fn attempt(&self, order: &str, key: &str) -> Option<String> {
        let reply = self
            .post(&format!("{order}/payments"), key, json!({}))
            .await;
        let id = reply.json()["id"].as_str().map(str::to_owned);
        assert!(id.is_some() || reply.status == 409, "{}", reply.text);
        id
    }

    /// Pays as a buyer does; a closed or unknown attempt cannot be paid, which is fine.
    fn pay(&self, attempt_id: Option<&String>) {
        if let Some(id) = attempt_id {
            let _ = self.simulator.pay(id, &PayRequest::default());
        }
    }

    /// Pays although the gateway has closed the attempt. Its callback must come, since the gateway is no longer queried.
    fn pay_late(&self, attempt_id: Option<&String>) {
        let Some(id) = attempt_id else { return };
        self.simulator.script_attempt(id, AttemptPlan::default());
        let forced = PayRequest {
            forced: true,
            ..PayRequest::default()
        };
        let _ = self.simulator.pay(id, &forced);
    }

    async fn shop(self, fate: Fate) {
        // Orders are created over time, so that the deadlines are spread too.
        let wait_ms = u64::try_from(self.number * 100).unwrap();
        self.clock.sleep(Duration::from_millis(wait_ms)).await;
        let due_ms = self.clock.now_ms() + DEADLINE_MS;
        let body = json!({
            "merchant_order_no": format!("A-{}", self.number),
            "buyer_id": format!("buyer-{}", self.number),
            "deadline_after_ms": DEADLINE_MS,
            "lines": [{ "product_id": self.product_id, "quantity": 1 }],
        });
        let order = self.post("/v1/orders", "order", body).await.ok();
        let order = format!("/v1/orders/{}", order["id"].as_str().unwrap());
        let first = self.attempt(&order, "first").await;
        let first = first.as_ref();
        match fate {
            Fate::Pays => self.pay(first),
            Fate::PaysInTheLastInstant => {
                self.clock.sleep_until(due_ms - 1).await;
                self.pay(first);
            }
            Fate::PaysAfterTheClose => {
                self.clock.sleep_until(due_ms + 120_000).await;
                self.pay_late(first);
            }
            Fate::CancelsAndPays => {
                self.post(
                    &format!("{order}/cancel"),
                    "cancel",
                    json!({ "reason": "buyer" }),
                )
                .await;
                self.pay(first);
            }
            Fate::Leaves => {}
            Fate::PaysTwice => {
                let second = self.attempt(&order, "second").await;
                self.pay(first);
                self.pay(second.as_ref());
            }
        }
    }
}

/// Counts the orders, attempts and refunds that are not in a final state.
async fn unsettled(api: &Api) -> i64 {
    query_scalar(
        "select (select count(*) from orders where state in (1, 2))
              + (select count(*) from attempt where state in (1, 5))
              + (select count(*) from refund where state in (1, 2, 3, 5))",
    )
    .fetch_one(api.state.platform().readers())
    .await
    .unwrap()
}

/// Lets the clock run until the buyers are done and everything is in a final state.
async fn run_out(api: &Api, mut buyers: JoinSet<()>) {
    let settled = async {
        loop {
            while let Some(done) = buyers.try_join_next() {
                done.unwrap();
            }
            // In this order: what a callback starts is there before the callback is acknowledged.
            let told = api.simulator.callbacks_waiting() == 0;
            let waiting = unsettled(api).await;
            if told && waiting == 0 && buyers.is_empty() {
                return;
            }
            // The clock waits for what is at the writer: on a busy machine it would run ahead of the work.
            api.state.platform().check_database().await.unwrap();
            // Fine steps while buyers act, coarse ones while only long waits are left.
            api.clock.advance(if buyers.is_empty() { 500 } else { 20 });
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        }
    };
    let in_time = broker::clock::monotonic::timeout(PATIENCE, settled).await;
    assert!(
        in_time.is_ok(),
        "{} items are not settled",
        unsettled(api).await
    );
}

/// Compares the payments and refunds of the gateway with those of the platform.
async fn count_money(api: &Api) {
    let (platform, merchant) = (api.state.platform(), MerchantId::fallback());
    let page = platform.orders(&merchant, None, None, 200).await.unwrap();
    assert_eq!(page.orders.len(), BUYERS);
    for order in page.orders {
        let mut kept = 0;
        for attempt in platform.attempts(&merchant, order.id).await.unwrap() {
            if let Some(seen) = api.simulator.attempt(&attempt.id.to_string()) {
                let taken: i64 = seen.payments.iter().map(|paid| paid.money.amount).sum();
                kept += taken - seen.refunded;
            }
        }
        let due = match order.state.as_str() {
            "paid" => order.payable_minor,
            _ => 0,
        };
        assert_eq!(kept, due, "the gateway kept {kept} for {order:?}");
    }
}

#[tokio::test]
async fn all_money_is_accounted_for_after_many_faults() {
    let config = SimulatorConfig {
        seed: 20_261_124,
        faults: faults(),
        close_delay_ms: 0,
    };
    let api = Api::start_with(config).await;
    let product =
        json!({ "name": "Ticket", "price_minor": 1_000, "currency": "EUR", "stock": BUYERS });
    let product = api.create("/v1/products", product).await.ok();
    let account = json!({ "gateway": "simulator", "name": "main" });
    api.create("/v1/gateways", account).await.ok();
    let mut buyers = JoinSet::new();
    for (number, fate) in FATES.into_iter().cycle().take(BUYERS).enumerate() {
        let buyer = Buyer {
            router: api.router.clone(),
            clock: api.clock.clone(),
            simulator: api.simulator.clone(),
            product_id: product["id"].as_str().unwrap().to_owned(),
            number,
        };
        buyers.spawn(buyer.shop(fate));
    }
    run_out(&api, buyers).await;
    let platform = api.state.platform();
    for finding in platform.verify().await.unwrap() {
        assert_eq!(finding.broken, 0, "{finding:?}");
    }
    count_money(&api).await;
    let tally = platform.tally().await.unwrap();
    assert_eq!(
        tally.payments_to_give_back, tally.payments_given_back,
        "{tally:?}"
    );
    assert_eq!((tally.held, tally.sold), (0, tally.paid), "{tally:?}");
    // The test covered every way in which an order can end.
    let ends = [
        tally.paid,
        tally.closed_by_timeout,
        tally.cancelled,
        tally.payments_given_back,
    ];
    assert!(ends.iter().all(|count| *count > 0), "{tally:?}");
    api.stop().await;
}
