//! Provides the sink that posts callbacks to the platform over HTTP, as a real gateway does.

use std::time::Duration;

use async_trait::async_trait;

use super::{CallbackSink, Delivery, NotAcknowledged};

/// A platform that takes longer to answer is tried again later.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Posts callbacks to `/v1/gateways/{account_id}/callbacks` of a platform.
#[derive(Clone, Debug)]
pub struct HttpSink {
    client: reqwest::Client,
    base_url: String,
}

impl HttpSink {
    /// Posts to the platform at `base_url` (`http://127.0.0.1:8080`, without a slash at the end).
    pub fn new(base_url: impl Into<String>) -> Result<Self, reqwest::Error> {
        // The platform is on this machine or near it, where the environment's proxy does not reach.
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .no_proxy()
            .build()?;
        let base_url = base_url.into();
        Ok(Self { client, base_url })
    }
}

#[async_trait]
impl CallbackSink for HttpSink {
    async fn deliver(&self, delivery: Delivery) -> Result<(), NotAcknowledged> {
        let url = format!(
            "{}/v1/gateways/{}/callbacks",
            self.base_url, delivery.account_id
        );
        let request = self
            .client
            .post(url)
            .headers(delivery.headers)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(delivery.body);
        let response = request
            .send()
            .await
            .map_err(|error| NotAcknowledged(error.to_string()))?;
        let status = response.status();
        if status.is_success() {
            Ok(())
        } else {
            Err(NotAcknowledged(format!("the platform answered {status}")))
        }
    }
}
