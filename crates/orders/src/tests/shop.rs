//! A shop to test with: one merchant, products, a payment gateway, a broker in memory, a clock moved by hand.

use std::sync::Arc;

use broker::clock::{Clock, ManualClock};
use http::HeaderMap;
use tempfile::TempDir;

use crate::messaging::Handle;
use crate::messaging::relay;
use crate::model::outbox::Topic;
use crate::run::step;
use crate::store::sql::{query, query_scalar};
use crate::tests::broker::TestBroker;
use crate::tests::gate::Gates;
use crate::tests::gateway::TestGateway;
use crate::{
    Attempt, Config, Deadline, Durability, GatewayAccountId, MerchantId, NewAttempt,
    NewGatewayAccount, NewLine, NewOrder, NewProduct, Order, OrderId, Platform, Product, ProductId,
    Running,
};
use gateway::{Gateways, Paid};

/// When the tests begin, in ms since the Unix epoch.
pub(crate) const START_MS: u64 = 1_800_000_000_000;

/// A shop and what it runs on.
pub(crate) struct Shop {
    pub(crate) clock: ManualClock,
    pub(crate) gates: Gates,
    pub(crate) broker: TestBroker,
    pub(crate) gateway: TestGateway,
    pub(crate) merchant: MerchantId,
    pub(crate) account: GatewayAccountId,
    pub(crate) config: Config,
    running: Option<Running>,
    _folder: TempDir,
}

impl Shop {
    /// A shop without any task but the writer.
    pub(crate) async fn open() -> Self {
        Self::open_seeded(0).await
    }

    /// A shop whose broker and gateway draw their faults from the seed.
    pub(crate) async fn open_seeded(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(START_MS);
        let gates = Gates::default();
        let mut config = Config::new(folder.path().join("orders.db"));
        config.durability = Durability::Os;
        let mut shop = Self {
            broker: TestBroker::new(clock.clone(), gates.clone(), seed),
            gateway: TestGateway::new(clock.clone(), gates.clone(), seed),
            clock,
            gates,
            merchant: MerchantId::fallback(),
            account: GatewayAccountId::new(0),
            config,
            running: None,
            _folder: folder,
        };
        shop.start().await;
        let platform = shop.platform();
        platform.ensure_default_merchant().await.unwrap();
        let account = NewGatewayAccount {
            gateway: "test".to_owned(),
            name: "test".to_owned(),
            settings: "{}".to_owned(),
        };
        let account = platform
            .create_gateway_account(&shop.merchant, account, None)
            .await;
        shop.account = account.unwrap().value.id;
        shop.connect_till();
        shop
    }

    async fn start(&mut self) {
        self.open_platform().await;
        self.connect_till();
    }

    async fn open_platform(&mut self) {
        let clock = Arc::new(self.clock.clone());
        let running = Running::open(self.config.clone(), clock, Gateways::default()).await;
        self.running = Some(running.unwrap());
    }

    fn connect_till(&self) {
        let gateway = Arc::new(self.gateway.clone());
        self.platform()
            .gateways()
            .insert(self.account.to_string(), gateway);
    }

    /// Starts all tasks of the platform too.
    pub(crate) async fn start_tasks(&mut self) {
        self.running.take().unwrap().stop().await;
        let gateways = Gateways::default();
        gateways.insert(self.account.to_string(), Arc::new(self.gateway.clone()));
        let clock = Arc::new(self.clock.clone());
        let broker = Arc::new(self.broker.clone());
        let running = Running::start(self.config.clone(), clock, broker, gateways).await;
        self.running = Some(running.unwrap());
    }

    /// Stops, and starts without the gateway.
    pub(crate) async fn reopen_without_gateway(mut self) -> Self {
        self.stop().await;
        self.open_platform().await;
        self
    }

    /// Stops and starts.
    pub(crate) async fn reopen(mut self) -> Self {
        self.stop().await;
        self.start().await;
        self
    }

    /// Stops, and starts so much later.
    pub(crate) async fn reopen_after(mut self, delay_ms: u64) -> Self {
        self.stop().await;
        self.clock.advance(delay_ms);
        self.start().await;
        self
    }

    pub(crate) async fn stop(&mut self) {
        self.running.take().unwrap().stop().await;
    }

    /// Crashes and starts.
    pub(crate) async fn crash(&mut self) {
        self.running.take().unwrap().crash().await;
        self.start().await;
    }

    pub(crate) fn platform(&self) -> &Platform {
        &self.running.as_ref().unwrap().platform
    }

    /// The steps in which the database carries out a statement.
    pub(crate) async fn plan_of(&self, statement: &str) -> Vec<String> {
        let explain = format!("explain query plan {statement}");
        let rows = query(explain)
            .fetch_all(self.platform().readers())
            .await
            .unwrap();
        rows.iter().map(|row| row.get("detail").unwrap()).collect()
    }

    pub(crate) fn now_ms(&self) -> i64 {
        i64::try_from(self.clock.now_ms()).unwrap()
    }

    pub(crate) async fn product(&self, stock: i64) -> Product {
        let new = NewProduct {
            name: "Tea".to_owned(),
            price_minor: 500,
            currency: "EUR".parse().unwrap(),
            stock,
        };
        let created = self
            .platform()
            .create_product(&self.merchant, new, None)
            .await;
        created.unwrap().value
    }

    /// An order of `quantity` units with a deadline 10 s ahead.
    pub(crate) fn new_order(number: &str, product_id: ProductId, quantity: i64) -> NewOrder {
        NewOrder {
            merchant_order_no: number.to_owned(),
            buyer_id: "buyer-1".to_owned(),
            lines: vec![NewLine {
                product_id,
                quantity,
            }],
            coupon_id: None,
            deadline: Deadline::AfterMs(10_000),
        }
    }

    pub(crate) async fn order(&self, number: &str, product: &Product, quantity: i64) -> Order {
        let new = Self::new_order(number, product.id, quantity);
        let created = self
            .platform()
            .create_order(&self.merchant, new, None)
            .await;
        created.unwrap().value
    }

    pub(crate) async fn read(&self, id: OrderId) -> Order {
        self.platform().order(&self.merchant, id).await.unwrap()
    }

    pub(crate) async fn available(&self, product: &Product) -> i64 {
        let found = self.platform().product(&self.merchant, product.id).await;
        found.unwrap().available
    }

    pub(crate) async fn attempt(&self, order: &Order) -> Attempt {
        let new = NewAttempt { account_id: None };
        let started = self
            .platform()
            .start_payment(&self.merchant, order.id, new, None);
        started.await.unwrap().value
    }

    /// Delivers the callback that reports the money.
    pub(crate) async fn report(&self, attempt_id: &str, paid: &Paid) {
        self.call_back(&TestGateway::callback(attempt_id, paid))
            .await;
    }

    /// Delivers a callback.
    pub(crate) async fn call_back(&self, body: &[u8]) {
        let headers = HeaderMap::new();
        let taken = self
            .platform()
            .handle_callback(self.account, &headers, body);
        taken.await.unwrap();
    }

    /// Pays the order in full and reports it.
    pub(crate) async fn pay(&self, order: &Order) -> Attempt {
        let attempt = self.attempt(order).await;
        let id = attempt.id.to_string();
        let paid = self.gateway.pay(&id, None, false).unwrap();
        self.report(&id, &paid).await;
        attempt
    }

    /// The number that a statement without parameters answers.
    pub(crate) async fn number(&self, statement: &'static str) -> i64 {
        let number = query_scalar::<Option<i64>>(statement).fetch_one(self.platform().readers());
        number.await.unwrap().unwrap_or(0)
    }

    /// Publishes what waits in the outbox.
    pub(crate) async fn pump(&self) {
        while relay::pump(self.platform(), &self.broker)
            .await
            .unwrap()
            .rows
            > 0
        {}
    }

    /// Answers every message that can be delivered now; answers how many there were.
    pub(crate) async fn answer_messages(&self) -> usize {
        let mut count = 0;
        for topic in Topic::ALL {
            count += answer(self.platform(), &self.broker, topic, 512).await;
        }
        count
    }

    /// Lets everything happen that is due by now.
    pub(crate) async fn settle(&self) {
        loop {
            step::fan_out(self.platform()).await.unwrap();
            self.pump().await;
            if self.answer_messages().await == 0 {
                return;
            }
        }
    }

    /// Lets time pass, and everything happen when it is due.
    pub(crate) async fn run_for(&self, delay_ms: u64) {
        let until_ms = self.clock.now_ms() + delay_ms;
        loop {
            self.settle().await;
            match self.next_message_ms() {
                Some(next_ms) if next_ms <= until_ms => self.clock.advance_to(next_ms),
                _ => break,
            }
        }
        self.clock.advance_to(until_ms);
        self.settle().await;
    }

    /// When the next message can be delivered, in ms since the Unix epoch.
    pub(crate) fn next_message_ms(&self) -> Option<u64> {
        Topic::ALL
            .into_iter()
            .filter_map(|topic| {
                let name = topic.name("duetime");
                self.broker.next_visible_ms(&name, "platform")
            })
            .min()
    }
}

/// Takes at most `max` messages of the topic and answers them as the consumers do; answers how many there were.
pub(crate) async fn answer(
    platform: &Platform,
    broker: &TestBroker,
    topic: Topic,
    max: usize,
) -> usize {
    let name = topic.name("duetime");
    let incoming = broker.take(&name, "platform", max);
    for answered in step::handle(platform, topic, &incoming).await {
        answered.unwrap();
    }
    let handles: Vec<Handle> = incoming.into_iter().map(|each| each.handle).collect();
    broker.settle(&name, "platform", &handles);
    handles.len()
}
