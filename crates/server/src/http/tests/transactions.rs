//! Checks what operators and producers do with transactions that were given up.

use std::sync::Arc;
use std::time::Duration;

use broker::{NewMessage, TransactionHandle};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Api, Call};
use crate::{Account, Action, Authenticate, Caller, Credentials, NoConnections, Refused};

/// Names an account by its secret: `root` administers, another one sends to its topic.
#[derive(Debug)]
struct Accounts;

#[derive(Debug)]
struct Sender(String);

impl Account for Sender {
    fn name(&self) -> &str {
        &self.0
    }

    fn may(&self, action: Action<'_>) -> bool {
        match action {
            Action::Publish { topic } => topic == self.0,
            _ => self.0 == "root",
        }
    }
}

impl Authenticate for Accounts {
    fn authenticate(&self, caller: &Caller<'_>) -> Result<Arc<dyn Account>, Refused> {
        match caller.credentials {
            Some(Credentials::Token(token)) => Ok(Arc::new(Sender(token.to_owned()))),
            _ => Err(Refused::Missing),
        }
    }
}

struct Rig {
    api: Api,
}

impl Rig {
    /// An API with a topic of transactions in a namespace.
    async fn start() -> Self {
        let rig = Self {
            api: Api::start_with(Arc::new(Accounts), Arc::new(NoConnections)),
        };
        for name in ["dev%tx", "tx"] {
            let topic = json!({ "name": name, "kind": "transaction" });
            rig.call("root", "POST", "/v1/topics", Some(topic))
                .await
                .ok();
        }
        rig
    }

    async fn call(
        &self,
        who: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> super::rig::Reply {
        let call = Call::new(method.parse::<Method>().unwrap(), path);
        let token = format!("Bearer {who}");
        let call = match body {
            Some(body) => call.json(&body),
            None => call,
        };
        self.api.call(call.header("authorization", &token)).await
    }

    async fn prepare(&self, topic: &str, message_id: &str) -> TransactionHandle {
        let message = NewMessage {
            message_id: Some(message_id.to_owned()),
            body: "paid".into(),
            keys: vec!["k".to_owned()],
            ..NewMessage::default()
        };
        let prepared = self.api.broker.prepare(topic, message, None).await;
        prepared.unwrap().transaction
    }

    /// Asks the producers as often as they may be asked, and once more; returns how often they were asked.
    async fn ask(&self) -> usize {
        let mut asked = 0;
        loop {
            self.api.clock.advance(30_000);
            let due = self
                .api
                .broker
                .take_checks(10, Duration::ZERO)
                .await
                .unwrap();
            if due.is_empty() {
                return asked;
            }
            asked += 1;
            let due = due.iter().map(|check| check.transaction);
            self.api.broker.checked(due.collect()).await.unwrap();
        }
    }

    async fn gauge(&self) -> u64 {
        let text = self.call("root", "GET", "/metrics", None).await.text;
        let name = "duetime_broker_given_up_transactions ";
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().parse().unwrap()
    }
}

fn ids(page: &Value) -> String {
    let items = page["items"].as_array().unwrap().iter();
    items
        .map(|item| item["message"]["message_id"].as_str().unwrap())
        .collect::<Vec<_>>()
        .join(" ")
}

#[tokio::test]
async fn transactions_given_up_are_listed_looked_at_and_ended() {
    let rig = Rig::start().await;
    for id in ["a", "b", "c"] {
        rig.prepare("dev%tx", id).await;
    }
    let get = async |path: &str| rig.call("root", "GET", path, None).await;
    assert_eq!(get("/v1/transactions").await.ok()["items"], json!([]));
    assert_eq!((rig.ask().await, rig.gauge().await), (15, 3));
    let page = get("/v1/transactions?limit=2").await.ok();
    assert_eq!(ids(&page), "a b");
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = get(&format!("/v1/transactions?limit=2&cursor={cursor}")).await;
    assert_eq!(ids(&rest.ok()), "c");
    let path = |index: usize| {
        let name = page["items"][index]["transaction"].as_str().unwrap();
        format!("/v1/transactions/{name}")
    };
    let shown = get(&path(0)).await.ok();
    assert_eq!(shown, page["items"][0]);
    assert_eq!(
        (&shown["topic"], &shown["state"], &shown["checks"]),
        (&json!("dev%tx"), &json!("given_up"), &json!(15))
    );
    assert_eq!(shown["given_up_at"], Api::instant(480));
    assert_eq!(shown["message"]["body"], "paid");
    assert!(shown.get("check_at").is_none());

    let act = async |index: usize, what: &str| {
        let path = format!("{}/{what}", path(index));
        rig.call("root", "POST", &path, None).await
    };
    let committed = act(0, "commit").await.ok();
    assert_eq!(committed["outcome"], "committed");
    assert_eq!(act(0, "commit").await.ok(), committed, "again");
    let problem = act(0, "rollback").await.problem("transaction_ended");
    assert_eq!(problem["detail"], "the transaction was committed before");
    act(0, "check").await.problem("transaction_ended");
    get(&path(0)).await.problem("transaction_ended");
    let rolled_back = act(1, "rollback").await.ok();
    assert_eq!(rolled_back, json!({ "outcome": "rolled_back" }));
    assert_eq!(ids(&get("/v1/transactions").await.ok()), "c");
    assert_eq!(rig.gauge().await, 1);

    let receive = json!({ "wait_for": "60s", "max": 10 });
    let receive = rig.call(
        "root",
        "POST",
        "/v1/topics/dev%25tx/groups/g/receive",
        Some(receive),
    );
    let received = rig.api.moving(receive).await;
    // The account may not consume; the broker itself is asked.
    assert_eq!(received.status, StatusCode::OK, "{}", received.text);
    let received = received.json();
    assert_eq!(received["items"][0]["message"]["message_id"], "a");
    assert_eq!(received["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_transaction_given_up_is_checked_again() {
    let rig = Rig::start().await;
    let transaction = rig.prepare("tx", "a").await;
    rig.ask().await;
    let check = format!("/v1/transactions/{transaction}/check");
    let now = rig.api.passed_ms() / 1_000;
    let opened = rig.call("root", "POST", &check, None).await.ok();
    assert_eq!(
        (&opened["state"], &opened["checks"]),
        (&json!("open"), &json!(0))
    );
    assert_eq!(
        opened["check_at"],
        Api::instant(i64::try_from(now).unwrap())
    );
    assert!(opened.get("given_up_at").is_none());
    assert_eq!(rig.gauge().await, 0);
    // Who asks producers has the question at once.
    let due = rig
        .api
        .broker
        .take_checks(10, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(due[0].transaction, transaction);
    assert_eq!(rig.ask().await, 15);
    assert_eq!(rig.gauge().await, 1);
}

#[tokio::test]
async fn transactions_are_for_operators_and_for_producers_of_their_topic() {
    let rig = Rig::start().await;
    let own = rig.prepare("dev%tx", "own").await;
    let other = rig.prepare("tx", "other").await;
    rig.ask().await;
    let who = "dev%tx";
    let list = "/v1/transactions";
    rig.call(who, "GET", list, None).await.problem("forbidden");
    let own_list = format!("{list}?topic=dev%25tx");
    assert_eq!(
        ids(&rig.call(who, "GET", &own_list, None).await.ok()),
        "own"
    );
    let other_list = format!("{list}?topic=tx");
    rig.call(who, "GET", &other_list, None)
        .await
        .problem("forbidden");
    // One that it may not see is as one that is not there.
    let nothing = TransactionHandle {
        topic: 99,
        sequence: 1,
    };
    for name in [other.to_string(), nothing.to_string(), "tea".to_owned()] {
        let path = format!("{list}/{name}");
        for (method, what) in [
            ("GET", ""),
            ("POST", "/commit"),
            ("POST", "/rollback"),
            ("POST", "/check"),
        ] {
            let refused = rig.call(who, method, &format!("{path}{what}"), None).await;
            let problem = refused.problem("transaction_not_found");
            let expected = format!("there is no transaction {name:?}, or it ended too long ago");
            assert_eq!(problem["detail"], expected);
        }
    }
    let commit = format!("{list}/{own}/commit");
    assert_eq!(
        rig.call(who, "POST", &commit, None).await.ok()["outcome"],
        "committed"
    );
    assert_eq!(
        ids(&rig.call("root", "GET", list, None).await.ok()),
        "other"
    );
    let bad = rig
        .call("root", "GET", "/v1/transactions?cursor=tea", None)
        .await;
    assert_eq!(bad.problem("invalid")["parameter"], "cursor");
    let bad = rig
        .call("root", "GET", "/v1/transactions?topic=none", None)
        .await;
    bad.problem("topic_not_found");
}
