//! Serves RocketMQ clients: gRPC in front of the broker, with TLS and accounts.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use broker::Broker;
use broker::clock::Clock;
use server::grpc::{Access, Grpc, GrpcConfig};
use server::{Accounts, CERTIFICATE_FILE, Certificate, Tls};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::config::Config;

/// Folder of the self-signed certificate, in the data folder.
const TLS_FOLDER: &str = "tls";

/// The gRPC front end, being served.
#[derive(Debug)]
pub(super) struct GrpcServer {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Lists its connections.
    pub(super) front: Grpc,
    /// Ends when it was asked to stop and every call has been answered.
    pub(super) served: JoinHandle<()>,
}

/// Binds the port.
pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} (grpc.listen)"))
}

/// The accounts, if a file with them is configured.
pub(super) fn accounts(config: &Config, clock: &Arc<dyn Clock>) -> Result<Option<Arc<Accounts>>> {
    let open = |file| Accounts::open(file, Arc::clone(clock)).map(Arc::new);
    let accounts = config.access.accounts.as_deref().map(open).transpose();
    accounts.context("read the accounts (access.accounts)")
}

/// TLS for every port, unless it is off.
pub(super) fn tls(config: &Config) -> Result<Option<Tls>> {
    if !config.tls.on {
        return Ok(None);
    }
    let advertised = config.grpc.advertise.iter().map(|to| to.host.clone());
    let mut names: Vec<String> = advertised.collect();
    // Every certificate names the loopback addresses, and no client connects to the unspecified one.
    let addresses = [
        config.grpc.listen.ip(),
        config.http.listen.ip(),
        config.server.listen.ip(),
    ];
    let addresses = addresses
        .into_iter()
        .filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
    names.extend(addresses.map(|ip| ip.to_string()));
    let certificate = certificate(config, names);
    let tls = Tls::open(&certificate).context("set up TLS (tls.certificate, tls.key)")?;
    Ok(Some(tls.required(config.tls.required)))
}

/// The file with the certificate of the broker's ports.
pub(crate) fn certificate_file(config: &Config) -> PathBuf {
    match &config.tls.certificate {
        Some(file) => file.clone(),
        None => config.data.join(TLS_FOLDER).join(CERTIFICATE_FILE),
    }
}

fn certificate(config: &Config, names: Vec<String>) -> Certificate {
    match (&config.tls.certificate, &config.tls.key) {
        (Some(certificate), Some(key)) => Certificate::Files {
            certificate: certificate.clone(),
            key: key.clone(),
        },
        _ => Certificate::SelfSigned {
            folder: config.data.join(TLS_FOLDER),
            names,
        },
    }
}

/// Who may connect, and how.
pub(super) struct Admission {
    /// The accounts; `None` lets everybody in.
    pub(super) accounts: Option<Arc<Accounts>>,
    /// TLS, if it is on.
    pub(super) tls: Option<Tls>,
}

/// Serves `broker` on `listener` until `stop` ends.
pub(super) fn serve(
    config: &GrpcConfig,
    listener: TcpListener,
    broker: &Broker,
    admission: Admission,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<GrpcServer> {
    let address = listener.local_addr().context("read the bound address")?;
    let access = match admission.accounts {
        Some(accounts) => Access::Accounts(accounts),
        None => Access::Open,
    };
    let config = GrpcConfig {
        listen: address,
        ..config.clone()
    };
    let front = Grpc::new(broker.clone(), config, access);
    let served = tokio::spawn(front.clone().run(listener, admission.tls, stop));
    Ok(GrpcServer {
        address,
        front,
        served,
    })
}
