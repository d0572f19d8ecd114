//! Checks every fault of the simulator from the platform's and the buyer's side.

use std::sync::Mutex;

use clock::ManualClock;
use tokio::sync::mpsc;

use super::*;
use crate::{
    CallbackError, CallbackKind, CloseOutcome, CreateOutcome, CreateRequest, Gateway, Money,
    RefundOutcome, RefundRequest, RefundStatus,
};

const START_MS: u64 = 1_800_000_000_000;
const EXPIRY_MS: u64 = START_MS + 1_800_000;
const ACCOUNT: &str = "gwa_1";
const ATTEMPT: &str = "att_1";

struct Rig {
    clock: ManualClock,
    simulator: Simulator,
    gateway: SimulatedGateway,
}

/// Records callbacks and acknowledges them, except for the first `failures`.
#[derive(Default)]
struct Recorder {
    seen: Mutex<Vec<Delivery>>,
    failures: Mutex<u32>,
}

#[async_trait::async_trait]
impl CallbackSink for Recorder {
    async fn deliver(&self, delivery: Delivery) -> Result<(), NotAcknowledged> {
        self.seen.lock().unwrap().push(delivery);
        let mut failures = self.failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(NotAcknowledged("503".to_owned()));
        }
        Ok(())
    }
}

fn request() -> CreateRequest {
    CreateRequest {
        attempt_id: ATTEMPT.to_owned(),
        order_id: "ord_1".to_owned(),
        money: money(1_000),
        expires_at_ms: EXPIRY_MS,
        idempotency_key: ATTEMPT.to_owned(),
    }
}

fn money(amount: i64) -> Money {
    let currency = "CNY".to_owned();
    Money { amount, currency }
}

fn rig(config: SimulatorConfig) -> Rig {
    let clock = ManualClock::new(START_MS);
    let simulator = Simulator::new(config, b"secret", Arc::new(clock.clone()));
    let gateway = simulator.gateway(ACCOUNT);
    Rig {
        clock,
        simulator,
        gateway,
    }
}

/// A gateway with one open attempt, to which `plan` happens.
async fn opened(plan: AttemptPlan) -> Rig {
    let rig = rig(SimulatorConfig::default());
    rig.simulator.script_order("ord_1", plan);
    let outcome = rig.gateway.create(&request()).await;
    assert!(matches!(outcome, CreateOutcome::Created { .. }));
    rig
}

impl Rig {
    fn pay(&self) -> Result<PayResult, PayRefused> {
        self.simulator.pay(ATTEMPT, &PayRequest::default())
    }

    fn force(&self) -> Result<PayResult, PayRefused> {
        let forced = true;
        let pay = PayRequest {
            forced,
            ..PayRequest::default()
        };
        self.simulator.pay(ATTEMPT, &pay)
    }

    /// Reads the callbacks that are due now, as the platform would.
    async fn callbacks(&self) -> Vec<CallbackKind> {
        let recorder = Recorder::default();
        self.simulator.deliver_due(&recorder).await;
        let seen = recorder.seen.into_inner().unwrap();
        let now_ms = self.clock.now_ms();
        let read = |delivery: Delivery| {
            self.gateway
                .verify_callback(&delivery.headers, &delivery.body, now_ms)
                .unwrap()
                .kind
        };
        seen.into_iter().map(read).collect()
    }

    fn refund_request(&self, amount: i64) -> RefundRequest {
        let view = self.simulator.attempt(ATTEMPT).unwrap();
        RefundRequest {
            refund_id: "ref_1".to_owned(),
            attempt_id: ATTEMPT.to_owned(),
            transaction_id: view.payments[0].transaction_id.clone(),
            money: money(amount),
        }
    }
}

#[tokio::test]
async fn a_paid_attempt_is_called_back_and_cannot_be_closed() {
    let rig = opened(AttemptPlan::default()).await;
    assert_eq!(rig.gateway.query(ATTEMPT).await, QueryOutcome::Pending);
    let result = rig.pay().unwrap();
    assert!(!result.under_way);
    assert_eq!(result.paid.money, money(1_000));
    let paid = QueryOutcome::Paid(result.paid.clone());
    assert_eq!(rig.gateway.query(ATTEMPT).await, paid);
    assert_eq!(rig.gateway.close(ATTEMPT).await, CloseOutcome::AlreadyPaid);
    assert_eq!(rig.pay(), Err(PayRefused::AlreadyPaid));
    let kind = CallbackKind::Paid {
        attempt_id: ATTEMPT.to_owned(),
        paid: result.paid,
    };
    assert_eq!(rig.callbacks().await, [kind]);
}

#[tokio::test]
async fn a_closed_or_expired_attempt_takes_no_money() {
    let rig = opened(AttemptPlan::default()).await;
    assert_eq!(rig.gateway.close(ATTEMPT).await, CloseOutcome::Closed);
    assert_eq!(rig.pay(), Err(PayRefused::Closed));
    assert_eq!(rig.gateway.query(ATTEMPT).await, QueryOutcome::Closed);

    let rig = opened(AttemptPlan::default()).await;
    rig.clock.advance_to(EXPIRY_MS - 1);
    assert_eq!(rig.gateway.query(ATTEMPT).await, QueryOutcome::Pending);
    rig.clock.advance_to(EXPIRY_MS);
    assert_eq!(rig.gateway.query(ATTEMPT).await, QueryOutcome::Closed);
    assert_eq!(rig.pay(), Err(PayRefused::Closed));
}

#[tokio::test]
async fn late_and_double_money_can_be_forced() {
    let rig = opened(AttemptPlan::default()).await;
    rig.gateway.close(ATTEMPT).await;
    let first = rig.force().unwrap().paid;
    let second = rig.force().unwrap().paid;
    assert_ne!(first.transaction_id, second.transaction_id);
    assert_eq!(rig.callbacks().await.len(), 2);
    let paid = QueryOutcome::Paid(first);
    assert_eq!(rig.gateway.query(ATTEMPT).await, paid);
}

#[tokio::test]
async fn a_request_that_never_arrived_is_not_found_and_not_closed() {
    let rig = rig(SimulatorConfig::default());
    let plan = AttemptPlan {
        unreached_creates: 1,
        ..AttemptPlan::default()
    };
    rig.simulator.script_order("ord_1", plan);
    let outcome = rig.gateway.create(&request()).await;
    assert!(matches!(outcome, CreateOutcome::Unknown { .. }));
    assert_eq!(rig.gateway.query(ATTEMPT).await, QueryOutcome::NotFound);
    assert_eq!(rig.pay(), Err(PayRefused::UnknownAttempt));
    let outcome = rig.gateway.create(&request()).await;
    assert!(matches!(outcome, CreateOutcome::Created { .. }));
    assert!(rig.pay().is_ok());
}

#[tokio::test]
async fn a_refused_attempt_takes_no_money() {
    let rig = rig(SimulatorConfig::default());
    let plan = AttemptPlan {
        create_refused: true,
        ..AttemptPlan::default()
    };
    rig.simulator.script_order("ord_1", plan);
    for _ in 0..2 {
        let outcome = rig.gateway.create(&request()).await;
        assert!(matches!(outcome, CreateOutcome::Rejected { .. }));
    }
    assert_eq!(rig.pay(), Err(PayRefused::UnknownAttempt));
    assert_eq!(rig.gateway.query(ATTEMPT).await, QueryOutcome::Closed);
}

#[tokio::test]
async fn closing_an_unknown_attempt_keeps_it_from_being_opened_later() {
    let rig = rig(SimulatorConfig::default());
    assert_eq!(rig.gateway.query(ATTEMPT).await, QueryOutcome::NotFound);
    assert_eq!(rig.gateway.close(ATTEMPT).await, CloseOutcome::Closed);
    let outcome = rig.gateway.create(&request()).await;
    assert!(matches!(outcome, CreateOutcome::Rejected { .. }));
    assert_eq!(rig.gateway.query(ATTEMPT).await, QueryOutcome::Closed);
}

#[tokio::test]
async fn unknown_answers_leave_what_was_asked_done() {
    let plan = AttemptPlan {
        unknown_queries: 1,
        unknown_closes: 1,
        ..AttemptPlan::default()
    };
    let rig = opened(plan).await;
    let outcome = rig.gateway.query(ATTEMPT).await;
    assert!(matches!(outcome, QueryOutcome::Unknown { .. }));
    let outcome = rig.gateway.close(ATTEMPT).await;
    assert!(matches!(outcome, CloseOutcome::Unknown { .. }));
    assert_eq!(rig.gateway.query(ATTEMPT).await, QueryOutcome::Closed);

    let rig = super::tests::rig(SimulatorConfig::default());
    let plan = AttemptPlan {
        unknown_creates: 1,
        ..AttemptPlan::default()
    };
    rig.simulator.script_order("ord_1", plan);
    let outcome = rig.gateway.create(&request()).await;
    assert!(matches!(outcome, CreateOutcome::Unknown { .. }));
    assert_eq!(rig.gateway.query(ATTEMPT).await, QueryOutcome::Pending);
}

#[tokio::test]
async fn a_repeated_create_changes_nothing_and_another_content_is_refused() {
    let rig = opened(AttemptPlan::default()).await;
    let outcome = rig.gateway.create(&request()).await;
    assert!(matches!(outcome, CreateOutcome::Created { .. }));
    let dearer = CreateRequest {
        money: money(2_000),
        ..request()
    };
    let outcome = rig.gateway.create(&dearer).await;
    assert!(matches!(outcome, CreateOutcome::Rejected { .. }));
    assert_eq!(rig.pay().unwrap().paid.money, money(1_000));
}

#[tokio::test]
async fn a_slow_payment_is_processing_and_may_end_after_the_expiry() {
    let plan = AttemptPlan {
        payment_ms: 3_000,
        ..AttemptPlan::default()
    };
    let rig = opened(plan).await;
    rig.clock.advance_to(EXPIRY_MS - 1_000);
    assert!(rig.pay().unwrap().under_way);
    assert_eq!(rig.gateway.query(ATTEMPT).await, QueryOutcome::Processing);
    let refused = CloseOutcome::NotClosable {
        retry_after_ms: 3_000,
    };
    assert_eq!(rig.gateway.close(ATTEMPT).await, refused);
    assert!(rig.callbacks().await.is_empty());
    rig.clock.advance_to(EXPIRY_MS + 2_000);
    assert_eq!(rig.gateway.close(ATTEMPT).await, CloseOutcome::AlreadyPaid);
    assert_eq!(rig.callbacks().await.len(), 1);
}

#[tokio::test]
async fn the_buyer_may_win_the_race_against_the_close() {
    let plan = AttemptPlan {
        paid_while_closing: true,
        unknown_closes: 1,
        ..AttemptPlan::default()
    };
    let rig = opened(plan).await;
    let outcome = rig.gateway.close(ATTEMPT).await;
    assert!(matches!(outcome, CloseOutcome::Unknown { .. }));
    assert_eq!(rig.gateway.close(ATTEMPT).await, CloseOutcome::AlreadyPaid);
    let outcome = rig.gateway.query(ATTEMPT).await;
    assert!(matches!(outcome, QueryOutcome::Paid(_)));
    assert_eq!(rig.callbacks().await.len(), 1);
}

#[tokio::test]
async fn the_five_minute_rule_names_when_to_close() {
    let rig = rig(SimulatorConfig {
        close_delay_ms: 300_000,
        ..SimulatorConfig::default()
    });
    rig.gateway.create(&request()).await;
    rig.clock.advance(100_000);
    let refused = CloseOutcome::NotClosable {
        retry_after_ms: 200_000,
    };
    assert_eq!(rig.gateway.close(ATTEMPT).await, refused);
    rig.clock.advance(200_000);
    assert_eq!(rig.gateway.close(ATTEMPT).await, CloseOutcome::Closed);
    assert_eq!(rig.gateway.capabilities().close_delay_ms, 300_000);
}

#[tokio::test]
async fn callbacks_are_lost_duplicated_or_late() {
    let lost = opened(AttemptPlan {
        callback_lost: true,
        ..AttemptPlan::default()
    });
    let rig = lost.await;
    rig.pay().unwrap();
    rig.clock.advance(86_400_000);
    assert!(rig.callbacks().await.is_empty());

    let twice = opened(AttemptPlan {
        callback_copies: 1,
        ..AttemptPlan::default()
    });
    let rig = twice.await;
    rig.pay().unwrap();
    let callbacks = rig.callbacks().await;
    assert_eq!(callbacks.len(), 2);
    assert_eq!(callbacks[0], callbacks[1]);

    let late = opened(AttemptPlan {
        callback_late_ms: 5_000,
        ..AttemptPlan::default()
    });
    let rig = late.await;
    rig.pay().unwrap();
    rig.clock.advance(4_999);
    assert!(rig.callbacks().await.is_empty());
    rig.clock.advance(1);
    assert_eq!(rig.callbacks().await.len(), 1);
}

#[tokio::test]
async fn a_reordered_callback_comes_after_the_refunds() {
    let plan = AttemptPlan {
        callback_hold_ms: 60_000,
        ..AttemptPlan::default()
    };
    let rig = opened(plan).await;
    rig.pay().unwrap();
    assert!(rig.callbacks().await.is_empty());
    rig.gateway.refund(&rig.refund_request(1_000)).await;
    rig.clock.advance(1);
    let kinds = rig.callbacks().await;
    assert!(matches!(kinds[0], CallbackKind::Refund { .. }));
    assert!(matches!(kinds[1], CallbackKind::Paid { .. }));
}

#[tokio::test]
async fn wrong_money_is_paid_by_fate_or_by_the_buyer() {
    let plan = AttemptPlan {
        amount_delta: -1,
        currency: Some("XTS".to_owned()),
        ..AttemptPlan::default()
    };
    let rig = opened(plan).await;
    let paid = rig.pay().unwrap().paid.money;
    assert_eq!((paid.amount, paid.currency.as_str()), (999, "XTS"));

    let rig = opened(AttemptPlan::default()).await;
    let pay = PayRequest {
        amount: Some(5),
        currency: Some("EUR".to_owned()),
        forced: false,
    };
    let paid = rig.simulator.pay(ATTEMPT, &pay).unwrap().paid.money;
    assert_eq!((paid.amount, paid.currency.as_str()), (5, "EUR"));
}

#[tokio::test]
async fn a_refund_succeeds_once_and_is_told() {
    let rig = opened(AttemptPlan::default()).await;
    rig.pay().unwrap();
    let refund = rig.refund_request(600);
    let done = RefundOutcome::Succeeded {
        refunded_at_ms: START_MS,
    };
    assert_eq!(rig.gateway.refund(&refund).await, done);
    assert_eq!(rig.gateway.refund(&refund).await, done);
    assert_eq!(rig.simulator.attempt(ATTEMPT).unwrap().refunded, 600);
    let other_amount = rig.refund_request(500);
    let outcome = rig.gateway.refund(&other_amount).await;
    assert!(matches!(outcome, RefundOutcome::Rejected { .. }));
    let too_much = RefundRequest {
        refund_id: "ref_2".to_owned(),
        ..rig.refund_request(401)
    };
    let outcome = rig.gateway.refund(&too_much).await;
    assert!(matches!(outcome, RefundOutcome::Rejected { .. }));
    // One callback of the payment and one of the refund.
    assert_eq!(rig.callbacks().await.len(), 2);
}

#[tokio::test]
async fn a_slow_refund_is_processing_and_a_stuck_one_waits_to_be_freed() {
    let plan = AttemptPlan {
        refund_ms: 20_000,
        unknown_refunds: 1,
        ..AttemptPlan::default()
    };
    let rig = opened(plan).await;
    rig.pay().unwrap();
    let refund = rig.refund_request(1_000);
    let missing = rig.gateway.query_refund("ref_1").await;
    assert_eq!(missing, RefundStatus::NotFound);
    let outcome = rig.gateway.refund(&refund).await;
    assert!(matches!(outcome, RefundOutcome::Unknown { .. }));
    let status = rig.gateway.query_refund("ref_1").await;
    assert_eq!(status, RefundStatus::Processing);
    rig.clock.advance(20_000);
    let refunded_at_ms = START_MS + 20_000;
    let status = rig.gateway.query_refund("ref_1").await;
    assert_eq!(status, RefundStatus::Succeeded { refunded_at_ms });

    let plan = AttemptPlan {
        refund_stuck: true,
        ..AttemptPlan::default()
    };
    let rig = opened(plan).await;
    rig.pay().unwrap();
    let refund = rig.refund_request(1_000);
    assert_eq!(rig.gateway.refund(&refund).await, RefundOutcome::Accepted);
    rig.clock.advance(30 * 86_400_000);
    let status = rig.gateway.query_refund("ref_1").await;
    assert_eq!(status, RefundStatus::Processing);
    assert!(rig.simulator.free_refund("ref_1"));
    assert!(!rig.simulator.free_refund("ref_1"));
    let status = rig.gateway.query_refund("ref_1").await;
    assert!(matches!(status, RefundStatus::Succeeded { .. }));
}

#[tokio::test]
async fn too_little_balance_is_retryable_with_the_same_refund() {
    let plan = AttemptPlan {
        refund_refusals: 2,
        ..AttemptPlan::default()
    };
    let rig = opened(plan).await;
    rig.pay().unwrap();
    let refund = rig.refund_request(1_000);
    for _ in 0..2 {
        let outcome = rig.gateway.refund(&refund).await;
        assert!(matches!(outcome, RefundOutcome::Retryable { .. }));
        let status = rig.gateway.query_refund("ref_1").await;
        assert!(matches!(status, RefundStatus::Retryable { .. }));
    }
    let outcome = rig.gateway.refund(&refund).await;
    assert!(matches!(outcome, RefundOutcome::Succeeded { .. }));
}

#[tokio::test]
async fn accounts_do_not_see_each_other() {
    let rig = opened(AttemptPlan::default()).await;
    rig.pay().unwrap();
    let other = rig.simulator.gateway("gwa_2");
    assert_eq!(other.query(ATTEMPT).await, QueryOutcome::NotFound);
    let outcome = other.refund(&rig.refund_request(1_000)).await;
    assert!(matches!(outcome, RefundOutcome::Rejected { .. }));
    let outcome = other.close(ATTEMPT).await;
    assert!(matches!(outcome, CloseOutcome::Unknown { .. }));
    let recorder = Recorder::default();
    rig.simulator.deliver_due(&recorder).await;
    let seen = recorder.seen.into_inner().unwrap();
    let stolen = other.verify_callback(&seen[0].headers, &seen[0].body, START_MS);
    assert_eq!(stolen, Err(CallbackError::Signature));
}

#[tokio::test]
async fn a_slow_answer_is_waited_for_up_to_the_limit() {
    let plan = AttemptPlan {
        answer_delay_ms: 4_000,
        ..AttemptPlan::default()
    };
    for (delay_ms, wait_ms, in_time) in [(4_000, 4_000, true), (60_000, 5_000, false)] {
        let rig = opened(AttemptPlan::default()).await;
        let plan = AttemptPlan {
            answer_delay_ms: delay_ms,
            ..plan.clone()
        };
        assert!(rig.simulator.script_attempt(ATTEMPT, plan));
        let gateway = rig.gateway.clone();
        let query = tokio::spawn(async move { gateway.query(ATTEMPT).await });
        while rig.clock.next_sleeper_ms().is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(rig.clock.next_sleeper_ms(), Some(START_MS + wait_ms));
        rig.clock.advance(wait_ms);
        let answered = query.await.unwrap() == QueryOutcome::Pending;
        assert_eq!(answered, in_time);
    }
}

#[tokio::test]
async fn an_unacknowledged_callback_is_signed_and_sent_again() {
    let rig = opened(AttemptPlan::default()).await;
    rig.pay().unwrap();
    let recorder = Recorder::default();
    *recorder.failures.lock().unwrap() = 1;
    assert_eq!(rig.simulator.deliver_due(&recorder).await, 0);
    assert_eq!(rig.simulator.deliver_due(&recorder).await, 0);
    rig.clock.advance(15_000);
    assert_eq!(rig.simulator.deliver_due(&recorder).await, 1);
    let seen = recorder.seen.into_inner().unwrap();
    let ids: Vec<_> = seen.iter().map(|one| &one.headers[ID_HEADER]).collect();
    assert_eq!(ids[0], ids[1]);
    assert_ne!(
        seen[0].headers[TIMESTAMP_HEADER],
        seen[1].headers[TIMESTAMP_HEADER]
    );
}

#[tokio::test]
async fn the_running_simulator_sends_at_once_and_ends_when_told() {
    struct Channel(mpsc::UnboundedSender<Delivery>);
    #[async_trait::async_trait]
    impl CallbackSink for Channel {
        async fn deliver(&self, delivery: Delivery) -> Result<(), NotAcknowledged> {
            self.0
                .send(delivery)
                .map_err(|_| NotAcknowledged(String::new()))
        }
    }

    let plan = AttemptPlan {
        callback_late_ms: 500,
        ..AttemptPlan::default()
    };
    let rig = opened(plan).await;
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async move {
        let _ = stopped.await;
    };
    let running = tokio::spawn(
        rig.simulator
            .clone()
            .run(Arc::new(Channel(sender)), shutdown),
    );
    rig.pay().unwrap();
    while rig.clock.next_sleeper_ms().is_none() {
        tokio::task::yield_now().await;
    }
    assert!(receiver.try_recv().is_err());
    rig.clock.advance(500);
    let delivery = receiver.recv().await.unwrap();
    assert_eq!(delivery.account_id, ACCOUNT);
    stop.send(()).unwrap();
    running.await.unwrap();
}

/// A gateway whose books are in a file.
fn kept(file: &Path, clock: &ManualClock) -> Rig {
    let config = SimulatorConfig::default();
    let simulator = Simulator::open(config, b"secret", Arc::new(clock.clone()), file).unwrap();
    Rig {
        clock: clock.clone(),
        gateway: simulator.gateway(ACCOUNT),
        simulator,
    }
}

#[tokio::test]
async fn books_in_a_file_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("simulator.books");
    let clock = ManualClock::new(START_MS);
    let first = kept(&file, &clock);
    let plan = AttemptPlan {
        refund_stuck: true,
        ..AttemptPlan::default()
    };
    first.simulator.script_order("ord_1", plan);
    first.gateway.create(&request()).await;
    first.pay().unwrap();
    let refund = first.refund_request(300);
    assert_eq!(first.gateway.refund(&refund).await, RefundOutcome::Accepted);
    let unopened = CreateRequest {
        attempt_id: "att_2".to_owned(),
        ..request()
    };
    first.gateway.close("att_2").await;
    let view = first.simulator.attempt(ATTEMPT);
    drop(first);

    for _ in 0..2 {
        let again = kept(&file, &clock);
        assert_eq!(again.simulator.attempt(ATTEMPT), view);
        let status = again.gateway.query_refund(&refund.refund_id).await;
        assert_eq!(status, RefundStatus::Processing);
        // One that was closed before it was opened stays closed.
        let late = again.gateway.create(&unopened).await;
        assert!(matches!(late, CreateOutcome::Rejected { .. }), "{late:?}");
    }
    let again = kept(&file, &clock);
    assert!(again.simulator.free_refund(&refund.refund_id));
    drop(again);
    let again = kept(&file, &clock);
    let status = again.gateway.query_refund(&refund.refund_id).await;
    assert!(matches!(status, RefundStatus::Succeeded { .. }));
}

#[tokio::test]
async fn books_are_written_anew_at_a_start_without_a_torn_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("simulator.books");
    let clock = ManualClock::new(START_MS);
    let rig = kept(&file, &clock);
    rig.gateway.create(&request()).await;
    rig.pay().unwrap();
    drop(rig);
    let lines = |text: &str| text.lines().count();
    let mut text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(lines(&text), 3);
    text.push_str("{\"attempt_id\":\"att_1\",\"att");
    std::fs::write(&file, text).unwrap();
    let rig = kept(&file, &clock);
    assert_eq!(rig.simulator.attempt(ATTEMPT).unwrap().payments.len(), 1);
    assert_eq!(lines(&std::fs::read_to_string(&file).unwrap()), 2);
    drop(rig);
    std::fs::write(&file, "{\"format\":2,\"seed\":0}\n").unwrap();
    let config = SimulatorConfig::default();
    let newer = Simulator::open(config, b"secret", Arc::new(clock), &file);
    assert!(newer.unwrap_err().to_string().contains("format 2"));
}
