//! Provides what may happen in a simulated shop between two looks at it.

use orders::{
    Deadline, Error, MerchantId, MoneyRecord, NewAttempt, NewLine, NewOrder, NewRefund, OrderId,
    PauseScope, PauseState, RefundLine, Topic, WaitingAttempt, step,
};
use rand::Rng;

use crate::oracle::Violation;
use crate::shop::driver::{Driver, Stop};
use crate::shop::scene::{allowed, defect};

/// More than there is of anything that needs an operator.
const MONEY_MAX: usize = 200;
/// Buyers.
const BUYERS: u32 = 3;

impl Driver {
    /// One thing happens.
    pub(crate) async fn step(&mut self) -> Result<(), Stop> {
        if self.stage.host.machine().is_down() {
            self.recover().await?;
        }
        match self.rng.random_range(0..100) {
            0..=7 => self.order().await,
            8..=19 => self.start_payment().await,
            20..=31 => {
                self.stage.pay();
                Ok(())
            }
            32..=39 => self.deliver_report().await,
            40..=42 => self.cancel_or_extend().await,
            43..=46 => self.refund().await,
            47 => self.fail_refund().await,
            48 => Ok(self.help_money().await?),
            49..=60 => self.relay().await.map(drop),
            61..=81 => self.consume().await,
            82..=91 => Ok(self.pass_time()?),
            92..=93 => self.pause_or_resume().await,
            94 => self.sweep().await,
            95 => self.rebuild().await,
            96 => {
                self.stage.host.machine().upset_wall();
                Ok(())
            }
            97 => self.break_broker().await,
            98 => Ok(self.crash(false).await?),
            _ => Ok(self.crash(true).await?),
        }
    }

    /// A broker that died starts again; a platform that is one process with it does too.
    async fn recover(&mut self) -> Result<(), Violation> {
        if self.plan.embedded {
            return self.crash(true).await;
        }
        if self.rng.random_bool(0.3) {
            self.stage.host.machine().rise(false)?;
        }
        Ok(())
    }

    /// The broker dies; rarely its disk does too, and an operator makes every timer anew from the database alone.
    async fn break_broker(&mut self) -> Result<(), Stop> {
        if self.rng.random_bool(0.8) {
            return Ok(self.stage.host.machine().fall()?);
        }
        self.stage.host.machine().burn()?;
        self.link.ledger().lose_all();
        self.stats.burns += 1;
        // The topics are made again by a start.
        self.crash(true).await?;
        self.rebuild().await
    }

    async fn order(&mut self) -> Result<(), Stop> {
        let platform = self.platform()?;
        let merchant = MerchantId::fallback();
        let index = usize::from(self.rng.random_bool(0.3));
        let buyer_id = format!("buyer-{}", self.rng.random_range(0..BUYERS));
        let coupon_id = if self.rng.random_bool(0.3) {
            let coupons = platform
                .coupons_of_buyer(&merchant, &buyer_id, None, 20)
                .await;
            let coupons = coupons.or_else(|error| defect("coupons", &error))?;
            let choice = self.rng.random_range(0..20);
            coupons
                .get(choice % std::cmp::max(coupons.len(), 1))
                .map(|coupon| coupon.id)
        } else {
            None
        };
        let Some(product_id) = self.products.get(index).copied() else {
            return Ok(());
        };
        let longest_ms = if self.rng.random_bool(0.5) {
            60_000
        } else {
            1_800_000
        };
        let new = NewOrder {
            merchant_order_no: format!("order-{}", self.stats.steps),
            buyer_id,
            lines: vec![NewLine {
                product_id,
                quantity: self.rng.random_range(1..4),
            }],
            coupon_id,
            deadline: Deadline::AfterMs(self.rng.random_range(1_000..longest_ms)),
        };
        let created = platform.create_order(&merchant, new, None).await;
        if let Some(created) = allowed("create an order", created)? {
            self.stats.orders += 1;
            let mut scene = self.stage.scene();
            scene.judge.created(&created.value);
            scene.orders.push(created.value.id);
        }
        Ok(())
    }

    async fn start_payment(&mut self) -> Result<(), Stop> {
        let Some(id) = self.stage.scene().any_order() else {
            return Ok(());
        };
        let platform = self.platform()?;
        let merchant = MerchantId::fallback();
        let new = NewAttempt { account_id: None };
        let started = self
            .live(platform.start_payment(&merchant, id, new, None))
            .await?;
        allowed("start a payment", started)?;
        Ok(())
    }

    async fn deliver_report(&mut self) -> Result<(), Stop> {
        let Some(report) = self.stage.scene().take_report() else {
            return Ok(());
        };
        let platform = self.platform()?;
        Ok(self.stage.report(&platform, report).await?)
    }

    async fn cancel_or_extend(&mut self) -> Result<(), Stop> {
        let Some(id) = self.stage.scene().any_order() else {
            return Ok(());
        };
        let platform = self.platform()?;
        if self.rng.random_bool(0.4) {
            return Ok(self.stage.cancel(&platform, id).await?);
        }
        let to_ms = self.now_ms() + self.rng.random_range(-1_000..90_000);
        Ok(self.stage.extend(&platform, id, to_ms).await?)
    }

    async fn refund(&mut self) -> Result<(), Stop> {
        let Some(id) = self.stage.scene().any_order() else {
            return Ok(());
        };
        let platform = self.platform()?;
        let merchant = MerchantId::fallback();
        if self.rng.random_bool(0.3) {
            return self.decide_refund(id).await;
        }
        let restock = self.rng.random_bool(0.3);
        let amount_minor = self
            .rng
            .random_bool(0.7)
            .then(|| self.rng.random_range(1..1_500));
        let unit = RefundLine {
            line_no: 1,
            quantity: 1,
        };
        let new = NewRefund {
            order_id: id,
            refund_no: format!("R-{}", self.rng.random_range(0..40)),
            amount_minor,
            restock: restock && amount_minor.is_none(),
            restock_lines: (restock && amount_minor.is_some())
                .then_some(unit)
                .into_iter()
                .collect(),
        };
        let asked = platform.create_refund(&merchant, new, None).await;
        if allowed("ask for a refund", asked)?.is_some() {
            self.stage.scene().judge.refunded(id, restock);
        }
        Ok(())
    }

    /// A refund that was done fails, or the callback of one that failed arrives.
    async fn fail_refund(&mut self) -> Result<(), Stop> {
        if self.rng.random_bool(0.5) {
            self.stage.scene().book.fail_some_refund();
            return Ok(());
        }
        let back = self.rng.random_range(0..4);
        let failed = {
            let scene = self.stage.scene();
            scene.book.failed_refunds.iter().nth_back(back).cloned()
        };
        let Some(refund_id) = failed else {
            return Ok(());
        };
        let platform = self.platform()?;
        let report = self.stage.report_failed_refund(&platform, &refund_id);
        Ok(report.await?)
    }

    /// An operator takes up a refund that did not work, withdraws it or settles it by hand.
    async fn decide_refund(&mut self, id: OrderId) -> Result<(), Stop> {
        let platform = self.platform()?;
        let merchant = MerchantId::fallback();
        let refunds = platform.refunds(&merchant, id).await;
        let refunds = refunds.or_else(|error| defect("refunds", &error))?;
        if let Some(refund) = refunds.last() {
            let id = refund.id;
            let decided = match self.rng.random_range(0..4) {
                0 => platform.abandon_refund(&merchant, id).await,
                1 => platform.settle_refund(&merchant, id, "by hand").await,
                _ => platform.retry_refund(&merchant, id).await,
            };
            allowed("decide about a refund", decided)?;
        }
        Ok(())
    }

    /// An operator records money that no payment can hold, or has an attempt without an answer asked about again.
    async fn help_money(&mut self) -> Result<(), Violation> {
        if self.rng.random_bool(0.5) {
            self.record_unmatched().await.map(drop)
        } else {
            self.retry_attempts().await.map(drop)
        }
    }

    /// Records all money that no payment can hold; answers whether there was any.
    pub(crate) async fn record_unmatched(&mut self) -> Result<bool, Violation> {
        let platform = self.platform()?;
        let open = platform.unmatched_payments(true, None, MONEY_MAX).await;
        let open = open.or_else(|error| defect("unmatched payments", &error))?;
        for unmatched in &open {
            let said = MoneyRecord {
                currency: "EUR".parse().ok(),
                ..MoneyRecord::default()
            };
            let recorded = platform.record_unmatched_payment(unmatched.id, said).await;
            recorded.or_else(|error| defect("record unmatched money", &error))?;
            self.stats.by_hand += 1;
        }
        Ok(!open.is_empty())
    }

    /// Has all attempts that need an operator asked about again; answers whether there were any.
    pub(crate) async fn retry_attempts(&mut self) -> Result<bool, Violation> {
        let platform = self.platform()?;
        let merchant = MerchantId::fallback();
        let waiting = WaitingAttempt::NeedsOperator;
        let found = platform.waiting_attempts(&merchant, waiting, None, MONEY_MAX);
        let found = found.await.or_else(|error| defect("attempts", &error))?;
        for attempt in &found {
            let retried = platform.retry_attempt(&merchant, attempt.id).await;
            retried.or_else(|error| defect("retry an attempt", &error))?;
        }
        Ok(!found.is_empty())
    }

    /// A consumer receives messages, answers them, and acknowledges all, some or none.
    async fn consume(&mut self) -> Result<(), Stop> {
        let index = self.rng.random_range(0..Topic::ALL.len());
        let max = self.rng.random_range(1..8);
        let received = self.answer(index, max).await?;
        match self.rng.random_range(0..10) {
            // It dies with the messages in its hands, and its leases run out.
            0 => Ok(()),
            1 => {
                let some = self.rng.random_range(0..=received.len());
                let (done, _) = received.split_at(some);
                self.acknowledge(index, done).await
            }
            2 => {
                for one in &received {
                    self.hand_back(index, one).await?;
                }
                Ok(())
            }
            _ => self.acknowledge(index, &received).await,
        }
    }

    /// Time passes: a little, much, or just to the edge of a deadline, where races are closest.
    fn pass_time(&mut self) -> Result<(), Violation> {
        let now_ms = self.now_ms();
        let deadline_ms = self.stage.scene().any_deadline_ms();
        let delay_ms = match self.rng.random_range(0..20) {
            0 => self.rng.random_range(0..3_600_000),
            1..=3 => self.rng.random_range(0..40_000),
            4..=11 => {
                let edge_ms = deadline_ms.unwrap_or(now_ms) + self.rng.random_range(-1..=1);
                std::cmp::max(edge_ms - now_ms, 0)
            }
            _ => self.rng.random_range(0..4_000),
        };
        let delay_ms = u64::try_from(delay_ms).unwrap_or(0);
        self.stage.host.machine().pass(delay_ms)
    }

    async fn pause_or_resume(&mut self) -> Result<(), Stop> {
        let platform = self.platform()?;
        let account = self.stage.scene().account;
        let scope = match (self.rng.random_range(0..3), account) {
            (0, _) => PauseScope::Everything,
            (1, Some(account)) => PauseScope::Account(account),
            _ => PauseScope::Merchant(MerchantId::fallback()),
        };
        match self.rng.random_range(0..10) {
            0..=3 => {
                allowed("pause", platform.pause(scope, "an outage").await)?;
            }
            // In force, resumed before, or never paused: then it is not found.
            4..=5 => match platform.resume(scope).await {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Ok(defect("resume", &error)?),
            },
            6..=8 => self.walk_on().await?,
            _ => self.resume_all().await?,
        }
        Ok(())
    }

    /// The resumer makes one step, so that pauses begin and end while it is under way.
    ///
    /// A walk that a crash cut short is now and then gone on with, as by a second process that was slow to die.
    async fn walk_on(&mut self) -> Result<(), Stop> {
        let platform = self.platform()?;
        let mut walk = self.walk.take();
        if walk.is_none() {
            let begun = step::begin_walk(&platform).await;
            walk = begun.or_else(|error| defect("begin a walk", &error))?;
        }
        if let Some(walk) = walk {
            let next = step::walk_on(&platform, walk).await;
            self.walk = next.or_else(|error| defect("walk on", &error))?;
        }
        Ok(())
    }

    /// Ends every pause and lets go what waited.
    pub(crate) async fn resume_all(&mut self) -> Result<(), Violation> {
        let platform = self.platform()?;
        let pauses = platform.pauses().await;
        for pause in pauses.or_else(|error| defect("pauses", &error))? {
            if pause.state == PauseState::Paused {
                allowed("resume", platform.resume(pause.scope).await)?;
            }
        }
        let released = step::release(&platform).await;
        released.or_else(|error| defect("let parked timers go", &error))
    }

    async fn sweep(&mut self) -> Result<(), Stop> {
        let platform = self.platform()?;
        // It asks gateways.
        let swept = self.live(platform.sweep()).await?;
        swept.or_else(|error| defect("sweep", &error))?;
        Ok(())
    }

    /// An operator writes and publishes every timer anew.
    async fn rebuild(&mut self) -> Result<(), Stop> {
        let platform = self.platform()?;
        let rebuilt = platform.rebuild_timers().await;
        rebuilt.or_else(|error| defect("rebuild the timers", &error))?;
        Ok(())
    }
}
