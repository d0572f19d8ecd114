//! Opens the door for RocketMQ clients: gRPC in front of the broker, with TLS and accounts.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use broker::Broker;
use broker::clock::Clock;
use server::grpc::{Access, Grpc, GrpcConfig, GrpcLimits, HostPort};
use server::{Accounts, Certificate, Tls};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::embedded::broker_config;

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

/// Opens the door of `broker` on `listener`, to everybody or to those who have accounts; it closes when `stop` ends.
pub(crate) fn open(
    config: &Config,
    listener: TcpListener,
    broker: &Broker,
    accounts: Option<Arc<Accounts>>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<Door> {
    let address = listener.local_addr().context("ask for the address")?;
    let advertise: Option<HostPort> = config
        .grpc
        .advertise
        .as_ref()
        .map(|text| text.parse())
        .transpose()
        .map_err(anyhow::Error::msg)?;
    let access = match accounts {
        Some(accounts) => Access::Accounts(accounts),
        None => Access::Open,
    };
    let tls = if config.grpc.tls {
        let names = advertise.iter().map(|place| place.host.clone()).collect();
        Some(Tls::open(&certificate(config, names))?)
    } else {
        None
    };
    let settings = broker_config(config)?.engine;
    let front = GrpcConfig {
        listen: address,
        advertise,
        body_bytes_max: settings.limits.body_bytes_max,
        auto_topic: settings.auto_topic,
        auto_group: settings.auto_group,
        limits: GrpcLimits {
            drain: config.server.shutdown_time / 2,
            ..GrpcLimits::default()
        },
    };
    let front = Grpc::new(broker.clone(), front, access);
    let served = tokio::spawn(front.clone().run(listener, tls, stop));
    Ok(Door {
        address,
        front,
        served,
    })
}

fn certificate(config: &Config, names: Vec<String>) -> Certificate {
    match (&config.grpc.certificate, &config.grpc.key) {
        (Some(certificate), Some(key)) => Certificate::Files {
            certificate: certificate.clone(),
            key: key.clone(),
        },
        _ => Certificate::SelfSigned {
            folder: Path::new(&config.storage.data).join(TLS_FOLDER),
            names,
        },
    }
}
