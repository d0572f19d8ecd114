//! Opens the door for RocketMQ clients: gRPC in front of the broker, with TLS and accounts.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use broker::Broker;
use broker::clock::Clock;
use server::grpc::{Access, Grpc, GrpcConfig, GrpcLimits, HostPort};
use server::{Accounts, CERTIFICATE_FILE, Certificate, Tls};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::broker_config;
use crate::config::Config;

/// Where the certificate lies that the server makes itself, in the data folder.
const TLS_FOLDER: &str = "tls";

/// A door that is open.
#[derive(Debug)]
pub(crate) struct Door {
    /// Where it is.
    pub(crate) address: SocketAddr,
    /// What knows who is connected.
    pub(crate) front: Grpc,
    /// Ends when the door is closed and everybody is out.
    pub(crate) served: JoinHandle<()>,
}

/// Takes the port.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} (grpc.listen)"))
}

/// The accounts, if a file with them is named.
pub(crate) fn accounts(config: &Config, clock: &Arc<dyn Clock>) -> Result<Option<Arc<Accounts>>> {
    let open = |file| Accounts::open(file, Arc::clone(clock)).map(Arc::new);
    let accounts = config.access.accounts.as_deref().map(open).transpose();
    accounts.context("read the accounts (access.accounts)")
}

/// What to call this server in its certificate, and where to send clients: as the configuration says.
fn advertised(config: &Config) -> Result<Option<HostPort>> {
    let advertise = config.grpc.advertise.as_ref();
    let parsed = advertise.map(|text| text.parse()).transpose();
    parsed.map_err(anyhow::Error::msg)
}

/// What encrypts on the broker's ports, unless that is off.
pub(crate) fn tls(config: &Config) -> Result<Option<Tls>> {
    if !config.tls.on {
        return Ok(None);
    }
    let mut names: Vec<String> = advertised(config)?
        .into_iter()
        .map(|place| place.host)
        .collect();
    // The certificate names the loopback interface anyway, and nobody calls "everywhere".
    let addresses = [config.grpc.listen.ip(), config.http.listen.ip()].into_iter();
    let addresses = addresses.filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
    names.extend(addresses.map(|ip| ip.to_string()));
    let certificate = certificate(config, names);
    let tls = Tls::open(&certificate).context("set up TLS (tls.certificate, tls.key)")?;
    Ok(Some(tls))
}

/// Where the certificate lies with which the broker's ports encrypt.
pub(crate) fn certificate_file(config: &Config) -> PathBuf {
    match &config.tls.certificate {
        Some(file) => file.clone(),
        None => config.storage.data.join(TLS_FOLDER).join(CERTIFICATE_FILE),
    }
}

/// Who may come in by the door, and how.
pub(crate) struct Rules {
    /// Those who have accounts; `None`: everybody.
    pub(crate) accounts: Option<Arc<Accounts>>,
    /// What encrypts, if anything does.
    pub(crate) tls: Option<Tls>,
}

/// Opens the door of `broker` on `listener`; it closes when `stop` ends.
pub(crate) fn open(
    config: &Config,
    listener: TcpListener,
    broker: &Broker,
    rules: Rules,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<Door> {
    let address = listener.local_addr().context("ask for the address")?;
    let access = match rules.accounts {
        Some(accounts) => Access::Accounts(accounts),
        None => Access::Open,
    };
    let settings = broker_config(config)?.engine;
    let front = GrpcConfig {
        listen: address,
        advertise: advertised(config)?,
        body_bytes_max: settings.limits.body_bytes_max,
        auto_topic: settings.auto_topic,
        auto_group: settings.auto_group,
        limits: GrpcLimits {
            drain: config.server.shutdown_time / 2,
            ..GrpcLimits::default()
        },
    };
    let front = Grpc::new(broker.clone(), front, access);
    let served = tokio::spawn(front.clone().run(listener, rules.tls, stop));
    Ok(Door {
        address,
        front,
        served,
    })
}

fn certificate(config: &Config, names: Vec<String>) -> Certificate {
    match (&config.tls.certificate, &config.tls.key) {
        (Some(certificate), Some(key)) => Certificate::Files {
            certificate: certificate.clone(),
            key: key.clone(),
        },
        _ => Certificate::SelfSigned {
            folder: config.storage.data.join(TLS_FOLDER),
            names,
        },
    }
}
