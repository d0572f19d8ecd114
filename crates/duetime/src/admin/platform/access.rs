//! Reads which order platform is meant, and as whom to call it.

use std::path::PathBuf;

use broker::clock::wall;
use clap::Args;
use hyper::header::HeaderValue;

use super::super::endpoint::{ApiKind, Endpoint};
use super::super::session::Session;
use crate::failure::{Failure, usage};

/// Which order platform, as whom, and whether to print JSON.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Order platform")]
pub(super) struct Access {
    /// Where the order platform listens
    #[arg(long, global = true, value_name = "URL", env = "DUETIME_ORDERS_URL")]
    #[arg(hide_env_values = true, default_value = "http://127.0.0.1:8080")]
    server: String,
    /// The operator's key, or an API key of a merchant
    #[arg(long = "key", global = true, value_name = "KEY", env = "DUETIME_KEY")]
    #[arg(hide_env_values = true)]
    api_key: Option<String>,
    /// The merchant for whom the operator acts
    #[arg(
        long = "as",
        global = true,
        value_name = "MERCHANT",
        env = "DUETIME_MERCHANT"
    )]
    #[arg(hide_env_values = true)]
    acts_for: Option<String>,
    /// The operator's name, for the audit trail
    #[arg(
        long = "operator",
        global = true,
        value_name = "NAME",
        env = "DUETIME_OPERATOR"
    )]
    #[arg(hide_env_values = true)]
    operator_name: Option<String>,
    /// Trust the certificates in this PEM file
    #[arg(long, global = true, value_name = "FILE", env = "DUETIME_CA")]
    #[arg(hide_env_values = true)]
    ca: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
}

impl Access {
    /// A command at work on the platform.
    pub(super) fn open(&self) -> Result<Session, Failure> {
        let mut headers = Vec::new();
        for (flag, name, value) in [
            ("--as", "duetime-merchant", &self.acts_for),
            ("--operator", "duetime-operator", &self.operator_name),
        ] {
            if let Some(value) = value {
                headers.push((name, header(flag, value)?));
            }
        }
        let mut authorization = None;
        if let Some(key) = &self.api_key {
            let mut value = header("--key", &format!("Bearer {key}"))?;
            value.set_sensitive(true);
            authorization = Some(value);
        }
        let endpoint = Endpoint {
            api: ApiKind::Orders,
            server: self.server.clone(),
            ca: self.ca.clone(),
            authorization,
            headers,
        };
        Session::at(endpoint, self.json)
    }

    /// The same for a request that creates something or changes stock: it names itself.
    pub(super) fn open_to_create(&self) -> Result<Session, Failure> {
        let mut session = self.open()?;
        // Unique enough for requests that are never sent twice.
        let name = format!(
            "cli-{}-{}",
            wall::since_epoch().as_nanos(),
            std::process::id()
        );
        let name = header("Idempotency-Key", &name)?;
        session.client.add_header("idempotency-key", name);
        Ok(session)
    }
}

fn header(flag: &str, value: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::try_from(value)
        .map_err(|_| usage(format!("{flag} has characters that are not allowed")))
}
