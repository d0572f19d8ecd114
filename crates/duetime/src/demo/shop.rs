//! Provides the demo's shop: a client of the platform's HTTP API, as a shop's own service would be.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

/// Units of the one product; enough for every order.
const STOCK: u64 = 1_000_000;
/// Price of one unit, in minor units.
const PRICE_MINOR: u64 = 1_999;
/// A connection unused for this long is not used again: the platform closes those it hears nothing from.
const IDLE_MAX: Duration = Duration::from_secs(2);
/// A call that takes longer has failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// A shop with one product, one gateway account and one coupon rule.
#[derive(Clone, Debug)]
pub(crate) struct Shop {
    client: reqwest::Client,
    base: String,
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
    /// Sets the shop up through the API.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let client = reqwest::Client::builder()
            .timeout(CALL_TIMEOUT)
            .pool_idle_timeout(IDLE_MAX)
            .no_proxy()
            .build()
            .context("make an HTTP client")?;
        let mut shop = Self {
            client,
            base: format!("http://{address}"),
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

    /// Makes an order of one unit.
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

    /// Starts a payment attempt; `None` if the order takes none any more.
    pub(crate) async fn start_payment(&self, order_id: &str) -> Result<Option<String>> {
        let request = self
            .client
            .post(format!("{}/v1/orders/{order_id}/payments", self.base));
        let request = request
            .header("Idempotency-Key", format!("pay-{order_id}"))
            .json(&json!({}));
        match answer(request).await? {
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
        let request = self.client.post(format!(
            "{}/v1/simulator/attempts/{attempt_id}/pay",
            self.base
        ));
        Ok(answer(request.json(&json!({"forced": forced}))).await?.0)
    }

    /// Cancels an order, as the buyer does.
    pub(crate) async fn cancel(&self, order_id: &str) -> Result<Outcome> {
        let request = self
            .client
            .post(format!("{}/v1/orders/{order_id}/cancel", self.base));
        let request = request
            .header("Idempotency-Key", format!("cancel-{order_id}"))
            .json(&json!({"reason": "buyer"}));
        Ok(answer(request).await?.0)
    }

    /// How many deadline timers found their order still unpaid, by the platform's own figures: only these read
    /// the order's row, for the timer of one that was paid or cancelled is gone.
    pub(crate) async fn timers_fired(&self) -> Result<u64> {
        let text = self
            .client
            .get(format!("{}/metrics", self.base))
            .send()
            .await?
            .text()
            .await?;
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
        let request = self
            .client
            .post(format!("{}{path}", self.base))
            .header("Idempotency-Key", key)
            .json(body);
        let (outcome, body) = answer(request).await?;
        if outcome == Outcome::TooLate {
            bail!("POST {path} was refused: {body}");
        }
        serde_json::from_value(body).with_context(|| format!("read the answer to POST {path}"))
    }
}

/// Sends a request; a conflict means that it came too late, any other refusal is an error.
async fn answer(request: reqwest::RequestBuilder) -> Result<(Outcome, Value)> {
    let response = request.send().await.context("call the platform")?;
    let status = response.status();
    let body: Value = response
        .json()
        .await
        .context("read the platform's answer")?;
    if status.is_success() {
        return Ok((Outcome::Done, body));
    }
    if status == reqwest::StatusCode::CONFLICT {
        return Ok((Outcome::TooLate, body));
    }
    bail!("the platform answered {status}: {body}")
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
