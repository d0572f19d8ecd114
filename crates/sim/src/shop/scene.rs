//! Provides the scene that the gateway and the broker of a simulated shop share with the platform: what may happen in
//! the middle of any call to them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderMap;
use orders::gateway::Paid;
use orders::{CloseReason, Error, GatewayAccountId, MerchantId, OrderId, Platform};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;

use crate::oracle::Violation;
use crate::shop::gateway::{Book, callback, refund_callback};
use crate::shop::judge::Judge;
use crate::shop::machine::Host;
use crate::shop::plan::{ShopCanary, ShopPlan};

/// A callback that the gateway has to deliver.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) attempt_id: String,
    pub(crate) paid: Paid,
    /// Whether it may be lost: the platform finds this money by asking.
    pub(crate) may_be_lost: bool,
}

/// What everybody on the stage knows.
pub(crate) struct Scene {
    pub(crate) rng: StdRng,
    /// How likely something happens in the middle of a call, 0 to 1.
    meanwhile: f64,
    pub(crate) book: Book,
    pub(crate) judge: Judge,
    pub(crate) orders: Vec<OrderId>,
    pub(crate) reports: Vec<Report>,
    pub(crate) account: Option<GatewayAccountId>,
    platform: Option<Platform>,
    /// The first invariant that was seen to be broken.
    violation: Option<Violation>,
}

/// The stage. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) host: Host,
    pub(crate) canary: Option<ShopCanary>,
    pub(crate) embedded: bool,
    /// Longest a sync takes, in ms.
    pub(crate) sync_ms_max: i64,
    scene: Arc<Mutex<Scene>>,
    doom: Arc<Notify>,
}

/// Something that happens in the middle of a call.
enum Event {
    Crash,
    Time(u64),
    Payment,
    Cancel(OrderId),
    Extend(OrderId, i64),
    Report(Report),
}

impl Stage {
    pub(crate) fn new(plan: &ShopPlan) -> Self {
        let scene = Scene {
            rng: StdRng::seed_from_u64(plan.seed ^ 0x57a6e),
            meanwhile: plan.meanwhile,
            book: Book::new(plan),
            judge: Judge::default(),
            orders: Vec::new(),
            reports: Vec::new(),
            account: None,
            platform: None,
            violation: None,
        };
        Self {
            host: Host::new(plan),
            canary: plan.canary,
            embedded: plan.embedded,
            sync_ms_max: plan.sync_us_max / 1_000,
            scene: Arc::new(Mutex::new(scene)),
            doom: Arc::new(Notify::new()),
        }
    }

    /// What everybody knows; never held across a wait.
    pub(crate) fn scene(&self) -> MutexGuard<'_, Scene> {
        self.scene.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The platform enters, or leaves in a crash.
    pub(crate) fn enter(&self, platform: Option<Platform>) {
        self.scene().platform = platform;
    }

    /// From now on nothing happens in the middle of a call, and the gateway answers well.
    pub(crate) fn calm(&self) {
        let mut scene = self.scene();
        scene.meanwhile = 0.0;
        scene.book.calm();
    }

    /// Notes a broken invariant; the first one counts.
    pub(crate) fn accuse(&self, violation: Violation) {
        self.scene().violation.get_or_insert(violation);
    }

    /// The broken invariant, if there is one.
    pub(crate) fn verdict(&self) -> Result<(), Violation> {
        self.scene().violation.clone().map_or(Ok(()), Err)
    }

    /// Ends when the process of the platform has to die.
    pub(crate) async fn doomed(&self) {
        self.doom.notified().await;
    }

    /// The process of the platform dies here: what waits for this waits for ever.
    pub(crate) async fn die(&self) {
        self.doom.notify_one();
        std::future::pending::<()>().await;
    }

    /// The world goes on in the middle of a call.
    pub(crate) async fn go_on(&self) {
        loop {
            let Some((event, platform)) = self.next_event() else {
                return;
            };
            if let Err(violation) = self.happen(event, platform).await {
                self.accuse(violation);
                return;
            }
        }
    }

    fn next_event(&self) -> Option<(Event, Platform)> {
        let now_ms = i64::try_from(self.host.machine().now_ms()).unwrap_or(i64::MAX);
        let mut scene = self.scene();
        let platform = scene.platform.clone()?;
        let meanwhile = scene.meanwhile;
        if !scene.rng.random_bool(meanwhile) {
            return None;
        }
        let order = scene.any_order();
        let event = match scene.rng.random_range(0..20) {
            0 => Event::Crash,
            1..=6 => Event::Time(scene.rng.random_range(0..2_500)),
            7..=11 => Event::Payment,
            12..=13 => Event::Cancel(order?),
            14..=15 => {
                let to_ms = now_ms + scene.rng.random_range(-1_000..8_000);
                Event::Extend(order?, to_ms)
            }
            _ => Event::Report(scene.take_report()?),
        };
        Some((event, platform))
    }

    async fn happen(&self, event: Event, platform: Platform) -> Result<(), Violation> {
        match event {
            Event::Crash => {
                self.die().await;
                Ok(())
            }
            Event::Time(delay_ms) => self.host.machine().pass(delay_ms),
            Event::Payment => {
                self.pay();
                Ok(())
            }
            Event::Cancel(id) => self.cancel(&platform, id).await,
            Event::Extend(id, to_ms) => self.extend(&platform, id, to_ms).await,
            Event::Report(report) => self.report(&platform, report).await,
        }
    }

    /// A buyer pays some attempt, more or less as he should.
    pub(crate) fn pay(&self) {
        let now_ms = self.host.machine().now_ms();
        let mut scene = self.scene();
        let Scene { rng, book, .. } = &mut *scene;
        let reports = book.pay_some(rng, now_ms);
        if self.canary == Some(ShopCanary::MoneyForgotten) {
            return;
        }
        for report in reports {
            if !(report.may_be_lost && scene.rng.random_bool(0.25)) {
                scene.reports.push(report);
            }
        }
    }

    /// The callback of some payment arrives; now and then it stays on the list and comes again.
    pub(crate) async fn report(
        &self,
        platform: &Platform,
        report: Report,
    ) -> Result<(), Violation> {
        let account = self.scene().account;
        let Some(account) = account else {
            return Ok(());
        };
        let body = callback(&report.attempt_id, &report.paid);
        let taken = platform
            .handle_callback(account, &HeaderMap::new(), &body)
            .await;
        match taken {
            Ok(_) => Ok(()),
            Err(error) => defect("a callback", &error),
        }
    }

    /// The callback of a refund that failed arrives.
    pub(crate) async fn report_failed_refund(
        &self,
        platform: &Platform,
        refund_id: &str,
    ) -> Result<(), Violation> {
        let Some(account) = self.scene().account else {
            return Ok(());
        };
        let body = refund_callback(refund_id);
        let taken = platform
            .handle_callback(account, &HeaderMap::new(), &body)
            .await;
        match taken {
            Ok(_) => Ok(()),
            Err(error) => defect("a callback of a refund", &error),
        }
    }

    /// An order is cancelled.
    pub(crate) async fn cancel(&self, platform: &Platform, id: OrderId) -> Result<(), Violation> {
        let reason = if self.scene().rng.random_bool(0.5) {
            CloseReason::Buyer
        } else {
            CloseReason::Merchant
        };
        let merchant = MerchantId::fallback();
        let cancelled = platform.cancel_order(&merchant, id, reason).await;
        if let Some(order) = allowed("cancel an order", cancelled)? {
            self.scene().judge.cancelled(order.id);
        }
        Ok(())
    }

    /// A deadline is moved.
    pub(crate) async fn extend(
        &self,
        platform: &Platform,
        id: OrderId,
        to_ms: i64,
    ) -> Result<(), Violation> {
        let merchant = MerchantId::fallback();
        let extended = platform.extend_order(&merchant, id, to_ms).await;
        match allowed("extend an order", extended)? {
            Some(order) => self.scene().judge.promised(order.id, order.deadline_ms),
            None => Ok(()),
        }
    }
}

impl Scene {
    /// Some order, if there is one; a late one rather than an early one.
    pub(crate) fn any_order(&mut self) -> Option<OrderId> {
        let count = self.orders.len();
        let back = std::cmp::min(self.rng.random_range(0..12), count.checked_sub(1)?);
        self.orders.get(count - 1 - back).copied()
    }

    /// The deadline of some order, in ms, if there is one.
    pub(crate) fn any_deadline_ms(&mut self) -> Option<i64> {
        let id = self.any_order()?;
        self.judge.deadline_ms(id)
    }

    /// Some callback to deliver.
    pub(crate) fn take_report(&mut self) -> Option<Report> {
        if self.reports.is_empty() {
            return None;
        }
        let index = self.rng.random_range(0..self.reports.len());
        if self.rng.random_bool(0.3) {
            return self.reports.get(index).cloned();
        }
        Some(self.reports.swap_remove(index))
    }
}

/// A refusal is an answer; anything else is a defect.
pub(crate) fn allowed<T>(what: &str, result: Result<T, Error>) -> Result<Option<T>, Violation> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(
            Error::OrderState { .. }
            | Error::DeadlineReached { .. }
            | Error::InsufficientStock { .. }
            | Error::CouponUnusable { .. }
            | Error::GatewayRefused { .. }
            | Error::RefundTooLarge { .. }
            | Error::RefundState { .. }
            | Error::Duplicate { .. }
            | Error::NotPublishing { .. }
            | Error::Invalid { .. },
        ) => Ok(None),
        Err(error) => defect(what, &error),
    }
}

/// An operation of the platform failed as none should.
pub(crate) fn defect<T>(what: &str, error: &Error) -> Result<T, Violation> {
    let what = format!("{what}: {error}");
    Err(Violation {
        invariant: 13,
        what,
    })
}
