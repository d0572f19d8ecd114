//! Drives a simulated shop: starts it, decides what happens next, lets it crash, and brings everything to its end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use orders::gateway::Gateways;
use orders::messaging::{Incoming, Messaging, MessagingError, Subscription, TopicKind};
use orders::step::Walk;
use orders::{
    Config, Durability, Error, MerchantId, NewCouponRule, NewGatewayAccount, NewProduct,
    OnFullRefund, Platform, ProductId, Running, Topic, UnknownPolicy, step,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::oracle::Violation;
use crate::shop::ShopStats;
use crate::shop::gateway::ShopGateway;
use crate::shop::judge::{check_end, check_rules};
use crate::shop::link::{INVISIBLE_MS, Link};
use crate::shop::machine::broken;
use crate::shop::plan::{ShopCanary, ShopPlan};
use crate::shop::scene::{Stage, defect};

/// How often a start is tried while the broker keeps dying.
const STARTS_MAX: u32 = 200;
/// Rounds after which a run that is not at its end is given up.
const END_ROUNDS_MAX: u32 = 5_000;
/// Messages that one receive takes at the end.
const BATCH: usize = 64;
/// Steps between two looks at all orders and every rule.
const ALL_EVERY: u32 = 12;

/// Why an operation has no result.
pub(crate) enum Stop {
    /// The process of the platform died in it.
    Died,
    /// An invariant is broken.
    Broken(Violation),
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Broken(violation)
    }
}

/// A shop and all that it runs on.
pub(crate) struct Driver {
    pub(crate) plan: ShopPlan,
    pub(crate) rng: StdRng,
    pub(crate) stage: Stage,
    pub(crate) link: Link,
    pub(crate) products: Vec<ProductId>,
    pub(crate) stats: ShopStats,
    config: Config,
    running: Option<Running>,
    subscriptions: Vec<(Topic, Box<dyn Subscription>)>,
    /// The walk over parked timers that is under way.
    pub(crate) walk: Option<Walk>,
    /// Whether the broker refused something that the relay would try again soon.
    refused: bool,
}

impl Driver {
    pub(crate) fn new(plan: ShopPlan, folder: &Path) -> Self {
        let mut rng = StdRng::seed_from_u64(plan.seed ^ 0xd21e);
        let stage = Stage::new(&plan);
        let config = Config {
            durability: Durability::Os,
            readers: 1,
            queues: rng.random_range(1..4),
            close_batch: 64,
            // The calls of a sweep one after the other: a seed names one run.
            gateway_calls: 1,
            resume_per_second: rng.random_range(1..8),
            relay_batch: if rng.random_bool(0.5) {
                rng.random_range(1..8)
            } else {
                512
            },
            unknown_policy: if rng.random_bool(0.3) {
                UnknownPolicy::CloseAndRefundLate { tries: 2 }
            } else {
                UnknownPolicy::Hold
            },
            ..Config::new(folder.join("orders.db"))
        };
        Self {
            link: Link::new(stage.clone()),
            plan,
            rng,
            stage,
            products: Vec::new(),
            stats: ShopStats::default(),
            config,
            running: None,
            subscriptions: Vec::new(),
            walk: None,
            refused: false,
        }
    }

    /// The platform that runs.
    pub(crate) fn platform(&self) -> Result<Platform, Violation> {
        match &self.running {
            Some(running) => Ok(running.platform.clone()),
            None => broken("the platform", "does not run"),
        }
    }

    /// The time, in ms.
    pub(crate) fn now_ms(&self) -> i64 {
        let now_ms = self.stage.host.machine().now_ms();
        i64::try_from(now_ms).unwrap_or(i64::MAX)
    }

    /// Runs the plan to its end.
    pub(crate) async fn run(mut self) -> Result<ShopStats, Violation> {
        self.start().await?;
        self.furnish().await?;
        for count in 0..self.plan.steps {
            self.stats.steps += 1;
            match self.step().await {
                Ok(()) => {}
                Err(Stop::Died) => self.crash(true).await?,
                Err(Stop::Broken(violation)) => return Err(violation),
            }
            self.look(count % ALL_EVERY == 0).await?;
        }
        self.end().await?;
        self.count().await?;
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
        Ok(self.stats)
    }

    /// Does something that the platform may die in.
    pub(crate) async fn live<T>(&self, action: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            () = self.stage.doomed() => Err(Stop::Died),
            done = action => Ok(done),
        }
    }

    /// Starts the platform on its database, and the broker if that is down.
    async fn start(&mut self) -> Result<(), Violation> {
        let clock = Arc::new(self.stage.host.clone());
        let gateways = Gateways::default();
        let running = Running::open(self.config.clone(), clock, gateways).await;
        let running = running.or_else(|error| defect("open the platform", &error))?;
        let platform = running.platform.clone();
        self.running = Some(running);
        self.connect_gateway(&platform);
        for _ in 0..STARTS_MAX {
            self.stage.host.machine().rise(self.plan.embedded)?;
            match self.live(self.connect()).await {
                Ok(Ok(subscriptions)) => {
                    self.subscriptions = subscriptions;
                    self.stage.enter(Some(platform));
                    return Ok(());
                }
                // The broker died, or its disk is full.
                Ok(Err(MessagingError::Unavailable(_))) | Err(Stop::Died) => {
                    self.stage.host.machine().pass(500)?;
                }
                Ok(Err(error)) => return broken("the broker", error),
                Err(Stop::Broken(violation)) => return Err(violation),
            }
        }
        broken("the shop", "does not start")
    }

    fn connect_gateway(&self, platform: &Platform) {
        let account = self.stage.scene().account;
        if let Some(account) = account {
            let gateway = Arc::new(ShopGateway(self.stage.clone()));
            platform.gateways().insert(account.to_string(), gateway);
        }
    }

    /// Makes the topics and joins the groups, as a start does.
    async fn connect(&self) -> Result<Vec<(Topic, Box<dyn Subscription>)>, MessagingError> {
        let mut subscriptions = Vec::new();
        for topic in Topic::ALL {
            let name = topic.name(&self.config.prefix);
            let (kind, reader) = match topic {
                Topic::Timers(kind) => (TopicKind::Delay, kind.as_str()),
                Topic::Events => (TopicKind::Fifo, "coupons"),
            };
            let group = format!("{}-{reader}", self.config.prefix);
            self.link
                .ensure_topic(&name, kind, self.config.queues)
                .await?;
            let subscription = self.link.subscribe(&name, &group).await?;
            subscriptions.push((topic, subscription));
        }
        Ok(subscriptions)
    }

    /// Makes what a shop needs.
    async fn furnish(&mut self) -> Result<(), Violation> {
        let platform = self.platform()?;
        match self.make(&platform).await {
            Ok(()) => {}
            Err(error) => return defect("furnish the shop", &error),
        }
        self.connect_gateway(&platform);
        Ok(())
    }

    async fn make(&mut self, platform: &Platform) -> Result<(), Error> {
        let merchant = MerchantId::fallback();
        platform.ensure_default_merchant().await?;
        let account = NewGatewayAccount {
            gateway: "test".to_owned(),
            name: "test".to_owned(),
            settings: "{}".to_owned(),
        };
        let account = platform
            .create_gateway_account(&merchant, account, None)
            .await?;
        self.stage.scene().account = Some(account.value.id);
        let Ok(currency) = "EUR".parse() else {
            unreachable!("EUR is a currency")
        };
        let rule = NewCouponRule {
            name: "thanks".to_owned(),
            amount_off_minor: 300,
            currency,
            min_total_minor: 0,
            valid_days: 30,
            on_full_refund: OnFullRefund::Keep,
        };
        platform.create_coupon_rule(&merchant, rule, None).await?;
        for (name, price_minor, stock) in [
            ("tea", 500, 1_000),
            ("rare tea", 500, 12),
            ("sample", 0, 30),
        ] {
            let new = NewProduct {
                name: name.to_owned(),
                price_minor,
                currency,
                stock,
            };
            let made = platform.create_product(&merchant, new, None).await?;
            let id = made.value.id;
            self.products.push(id);
            self.stage.scene().judge.stocked(id, stock);
            if self.plan.canary == Some(ShopCanary::StockGrows) {
                platform.adjust_stock(&merchant, id, 1, None).await?;
            }
        }
        Ok(())
    }

    /// The process of the platform dies and starts again; the broker too, if both are one.
    pub(crate) async fn crash(&mut self, with_broker: bool) -> Result<(), Violation> {
        self.stats.crashes += 1;
        self.stage.enter(None);
        self.subscriptions.clear();
        if let Some(running) = self.running.take() {
            step::crash(running).await;
        }
        if self.plan.embedded && with_broker {
            self.stage.host.machine().fall()?;
        }
        self.start().await
    }

    /// Looks at every order that is open, and now and then at all orders and every rule.
    async fn look(&mut self, at_all: bool) -> Result<(), Violation> {
        self.stage.verdict()?;
        let platform = self.platform()?;
        let ids = self.stage.scene().judge.ids(at_all);
        let latest_ms = self.stage.host.machine().latest_ms();
        let latest_ms = i64::try_from(latest_ms).unwrap_or(i64::MAX);
        for id in ids {
            let order = platform.order(&MerchantId::fallback(), id).await;
            let order = order.or_else(|error| defect("an order", &error))?;
            self.stage.scene().judge.observe(&order, latest_ms)?;
        }
        if at_all {
            check_rules(&platform).await?;
        }
        Ok(())
    }

    /// Publishes what waits in the outbox; answers how many rows were published.
    pub(crate) async fn relay(&mut self) -> Result<usize, Stop> {
        let platform = self.platform()?;
        let relayed = self.live(step::relay(&platform, &self.link)).await?;
        match relayed {
            Ok(relayed) => {
                self.refused = relayed.failed > 0;
                Ok(relayed.rows - std::cmp::min(relayed.failed, relayed.rows))
            }
            Err(error) => Ok(defect("relay", &error)?),
        }
    }

    /// Receives messages of a topic and answers them.
    pub(crate) async fn answer(&self, index: usize, max: usize) -> Result<Vec<Incoming>, Stop> {
        let Some((topic, subscription)) = self.subscriptions.get(index) else {
            return Ok(Vec::new());
        };
        let platform = self.platform()?;
        let received = self.live(subscription.receive(max, Duration::ZERO)).await?;
        let received = match received {
            Ok(received) => received,
            Err(MessagingError::Unavailable(_)) => return Ok(Vec::new()),
            Err(error) => return Ok(broken("receive", error)?),
        };
        let results = self
            .live(step::handle(&platform, *topic, &received))
            .await?;
        for result in results {
            if let Err(error) = result {
                defect("answer a message", &error)?;
            }
        }
        Ok(received)
    }

    /// Acknowledges messages.
    pub(crate) async fn acknowledge(&self, index: usize, done: &[Incoming]) -> Result<(), Stop> {
        let Some((_, subscription)) = self.subscriptions.get(index) else {
            return Ok(());
        };
        if done.is_empty() {
            return Ok(());
        }
        // Whether it arrives or not: it is not certain that these come again.
        self.link.acknowledged(done);
        let handles: Vec<_> = done.iter().map(|one| one.handle.clone()).collect();
        match self.live(subscription.ack(&handles)).await? {
            Ok(()) | Err(MessagingError::Unavailable(_)) => Ok(()),
            Err(error) => Ok(broken("acknowledge", error)?),
        }
    }

    /// Hands a message back.
    pub(crate) async fn hand_back(&self, index: usize, one: &Incoming) -> Result<(), Stop> {
        let Some((_, subscription)) = self.subscriptions.get(index) else {
            return Ok(());
        };
        let delay = Duration::from_secs(5);
        match self
            .live(subscription.retry_later(&one.handle, delay))
            .await?
        {
            Ok(()) | Err(MessagingError::Unavailable(_)) => Ok(()),
            Err(error) => Ok(broken("hand a message back", error)?),
        }
    }

    /// Nothing breaks any longer, and everything comes to its end.
    async fn end(&mut self) -> Result<(), Violation> {
        self.stage.calm();
        self.stage.host.machine().calm();
        // Half of the runs go on after a crash.
        if self.stage.host.machine().is_down() || self.rng.random_bool(0.5) {
            self.crash(true).await?;
            self.stage.host.machine().calm();
        }
        self.resume_all().await?;
        let lease_ms = i64::try_from(INVISIBLE_MS).unwrap_or(i64::MAX);
        // The clock may have been past a deadline already, before a start on a wall that was set back.
        let latest_ms = self.stage.host.machine().latest_ms();
        let from_ms = i64::try_from(latest_ms).unwrap_or(i64::MAX) + lease_ms;
        self.look(true).await?;
        self.stage.scene().judge.calm(from_ms);
        // Every callback arrives in the end, once more if it has before.
        let reports = std::mem::take(&mut self.stage.scene().reports);
        let platform = self.platform()?;
        for report in reports {
            self.stage.report(&platform, report).await?;
        }
        let failed = self.stage.scene().book.failed_refunds.clone();
        for refund_id in failed {
            self.stage
                .report_failed_refund(&platform, &refund_id)
                .await?;
        }
        let mut helps = 0;
        for _ in 0..END_ROUNDS_MAX {
            if self.round().await? {
                continue;
            }
            let Some(next_ms) = self.next_ms() else {
                // What needs an operator is dealt with at last.
                helps += 1;
                match helps {
                    1 if self.retry_attempts().await? => continue,
                    1..=2 if self.record_unmatched().await? => continue,
                    _ => {}
                }
                self.look(true).await?;
                self.find_lost_events(&platform).await?;
                return check_end(&self.stage, &platform).await;
            };
            let now_ms = self.stage.host.machine().now_ms();
            let delay_ms = std::cmp::max(next_ms.saturating_sub(now_ms), 1);
            self.stage.host.machine().pass(delay_ms)?;
        }
        let next = self.link.ledger().next().cloned();
        broken("a run does not end", format!("{next:?} is awaited"))
    }

    /// Events that burned with a disk are found by the sweeper, and only they.
    async fn find_lost_events(&mut self, platform: &Platform) -> Result<(), Violation> {
        if self.stats.burns == 0 {
            return Ok(());
        }
        let grace_ms = u64::try_from(self.config.sweep_grace_ms).unwrap_or(0);
        self.stage.host.machine().pass(grace_ms + 1_000)?;
        let swept = platform.sweep().await;
        let swept = swept.or_else(|error| defect("sweep", &error))?;
        if swept.timers > 0 {
            return broken("the sweeper", format!("found timers: {swept:?}"));
        }
        while self.round().await? {}
        Ok(())
    }

    /// When to look again, in ms; `None` if nothing has to come.
    fn next_ms(&self) -> Option<u64> {
        let now_ms = self.stage.host.machine().now_ms();
        let ledger = self.link.ledger();
        let later_ms = ledger.next_after_ms(now_ms);
        // What should be here already is in the hands of a consumer that died.
        let is_late = ledger
            .next()
            .is_some_and(|(first_ms, _)| *first_ms <= now_ms);
        let again_ms = (is_late || self.refused).then_some(now_ms + 1_000);
        [later_ms, again_ms].into_iter().flatten().min()
    }

    /// Does all that can be done now; answers whether that was anything.
    async fn round(&mut self) -> Result<bool, Violation> {
        match self.try_round().await {
            Ok(busy) => Ok(busy),
            Err(Stop::Died) => broken("the platform died", "with nothing broken"),
            Err(Stop::Broken(violation)) => Err(violation),
        }
    }

    async fn try_round(&mut self) -> Result<bool, Stop> {
        let mut busy = false;
        while self.relay().await? > 0 {
            busy = true;
        }
        for index in 0..Topic::ALL.len() {
            let received = self.answer(index, BATCH).await?;
            self.acknowledge(index, &received).await?;
            busy |= !received.is_empty();
        }
        self.stage.verdict()?;
        Ok(busy)
    }

    /// Counts what the run came to.
    async fn count(&mut self) -> Result<(), Violation> {
        let platform = self.platform()?;
        let tally = platform.tally().await;
        let tally = tally.or_else(|error| defect("tally", &error))?;
        let machine = self.stage.host.machine();
        self.stats.falls = machine.falls;
        self.stats.turns = machine.steps;
        drop(machine);
        self.stats.deliveries = self.link.ledger().deliveries;
        self.stats.paid = tally.paid;
        self.stats.closed_by_timeout = tally.closed_by_timeout;
        self.stats.cancelled = tally.cancelled;
        self.stats.given_back = tally.payments_to_give_back;
        self.stats.coupons = tally.coupons;
        Ok(())
    }
}
