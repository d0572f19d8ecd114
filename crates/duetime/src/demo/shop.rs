//! Provides the demo's shop, a client of the order platform's HTTP API.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::transport::Transport;

/// Units of the one product; enough for every order.
const STOCK: u64 = 1_000_000;
/// Price of one unit, in minor units.
const PRICE_MINOR: u64 = 1_999;

/// A shop with one product, one gateway account and one coupon rule.
#[derive(Clone)]
pub(crate) struct Shop {
    transport: Arc<Transport>,
    host: String,
    product_id: String,
}

/// The part of an order's answer that the demo needs.
#[derive(Debug, Deserialize)]
pub(crate) struct MadeOrder {
    pub(crate) id: String,
    /// In the form of RFC 3339.
    pub(crate) deadline: jiff::Timestamp,
}

#[derive(Debug, Deserialize)]
struct Id {
    id: String,
}

/// How a call that may come too late ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was done.
    Done,
    /// The order had moved on before.
    TooLate,
}

impl Shop {
    /// Creates the product, the gateway account and the coupon rule.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let transport = Transport::new(&address.ip().to_string(), address.port(), None)?;
        let mut shop = Self {
            transport: Arc::new(transport),
            host: address.to_string(),
            product_id: String::new(),
        };
        let product =
            json!({"name": "Tea", "price_minor": PRICE_MINOR, "currency": "EUR", "stock": STOCK});
        shop.product_id = shop
            .create::<Id>("/v1/products", "demo-product", &product)
            .await?
            .id;
        let account = json!({"gateway": "simulator", "name": "demo"});
        shop.create::<Value>("/v1/gateways", "demo-account", &account)
            .await?;
        let rule = json!({"name": "thanks", "amount_off_minor": 100, "currency": "EUR"});
        shop.create::<Value>("/v1/coupon-rules", "demo-rule", &rule)
            .await?;
        Ok(shop)
    }

    /// Creates an order of one unit.
    pub(crate) async fn order(&self, number: usize, deadline_after_ms: u64) -> Result<MadeOrder> {
        let order = json!({
            "merchant_order_no": format!("D-{number}"),
            "buyer_id": format!("buyer-{}", number % 1_000),
            "lines": [{"product_id": self.product_id, "quantity": 1}],
            "deadline_after_ms": deadline_after_ms,
        });
        self.create("/v1/orders", &format!("order-{number}"), &order)
            .await
    }

    /// Starts a payment attempt; `None` if the order no longer accepts one.
    pub(crate) async fn start_payment(&self, order_id: &str) -> Result<Option<String>> {
        let path = format!("/v1/orders/{order_id}/payments");
        let key = format!("pay-{order_id}");
        match self.post(&path, Some(&key), &json!({})).await? {
            (Outcome::Done, body) => Ok(Some(
                serde_json::from_value::<Id>(body)
                    .context("read the attempt")?
                    .id,
            )),
            (Outcome::TooLate, _) => Ok(None),
        }
    }

    /// Pays an attempt, as the buyer does on the gateway's page.
    pub(crate) async fn pay(&self, attempt_id: &str, forced: bool) -> Result<Outcome> {
        let path = format!("/v1/simulator/attempts/{attempt_id}/pay");
        let answer = self.post(&path, None, &json!({"forced": forced})).await?;
        Ok(answer.0)
    }

    /// Cancels an order, as the buyer does.
    pub(crate) async fn cancel(&self, order_id: &str) -> Result<Outcome> {
        let path = format!("/v1/orders/{order_id}/cancel");
        let key = format!("cancel-{order_id}");
        let answer = self
            .post(&path, Some(&key), &json!({"reason": "buyer"}))
            .await?;
        Ok(answer.0)
    }

    /// How many deadline timers found their order unpaid, by the platform's metrics. Only these read the row of
    /// the order: the timer of a paid or cancelled one is removed.
    pub(crate) async fn timers_fired(&self) -> Result<u64> {
        let (_, page) = self.call(Method::GET, "/metrics", None, None).await?;
        let text = String::from_utf8(page.to_vec()).context("read the metrics")?;
        Ok(sum_of(
            &text,
            "duetime_timers_total{",
            &["kind=\"order_deadline\"", "outcome=\"fired\""],
        ))
    }

    async fn create<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        key: &str,
        body: &Value,
    ) -> Result<T> {
        let (outcome, body) = self.post(path, Some(key), body).await?;
        if outcome == Outcome::TooLate {
            bail!("POST {path} was refused: {body}");
        }
        serde_json::from_value(body).with_context(|| format!("read the answer to POST {path}"))
    }

    /// Posts; a conflict means that the order was settled before, any other refusal is an error.
    async fn post(&self, path: &str, key: Option<&str>, body: &Value) -> Result<(Outcome, Value)> {
        let (status, answer) = self.call(Method::POST, path, key, Some(body)).await?;
        let answer: Value = serde_json::from_slice(&answer)
            .with_context(|| format!("read the answer to POST {path}"))?;
        match status {
            status if status.is_success() => Ok((Outcome::Done, answer)),
            StatusCode::CONFLICT => Ok((Outcome::TooLate, answer)),
            status => bail!("POST {path} was answered {status}: {answer}"),
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes)> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.host);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let request = request.body(Full::new(body))?;
        let answered = self.transport.exchange(request).await;
        answered.with_context(|| format!("call {path} of the order platform"))
    }
}

/// Adds up the samples of a metric that has these labels.
fn sum_of(text: &str, metric: &str, labels: &[&str]) -> u64 {
    let samples = text
        .lines()
        .filter(|line| line.starts_with(metric) && labels.iter().all(|label| line.contains(label)));
    samples
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_metric_and_label_are_added() {
        let text = "# HELP a_total x\na_total{kind=\"order\"} 3\na_total{kind=\"order\",b=\"1\"} 4\na_total{kind=\"coupon\"} 9\nb_total 1\n";
        assert_eq!(sum_of(text, "a_total", &["kind=\"order\""]), 7);
    }
}
