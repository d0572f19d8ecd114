//! Runs the payment gateway simulator: its secret, its first account, its callbacks.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use broker::clock::{Clock, WorldClock};
use gateway::simulator::{GATEWAY_NAME, HttpSink, Simulator, SimulatorConfig};
use orders::{MerchantId, NewGatewayAccount, Platform};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::stop::ended;

/// File in the data folder that the simulator's secrets are derived from.
const SECRET_FILE: &str = "simulator.secret";
/// File in the data folder that the simulator's books are kept in.
const BOOKS_FILE: &str = "simulator.books";
/// Name of the gateway account that a first start makes.
const FIRST_ACCOUNT: &str = "simulator";

/// Opens the simulator with the accounts that the platform has at it.
pub(super) async fn open(
    data: &Path,
    platform: &Platform,
    clock: &Arc<dyn Clock>,
) -> Result<Simulator> {
    let secret = secret(data)?;
    let world = Arc::new(WorldClock::of(Arc::clone(clock)));
    let books = data.join(BOOKS_FILE);
    let simulator = Simulator::open(SimulatorConfig::default(), &secret, world, &books)
        .with_context(|| format!("open the simulator's books in {}", books.display()))?;
    platform.connect_simulator(&simulator).await?;
    Ok(simulator)
}

/// Gives the merchant `default` an account at the simulator if it has no account at all.
pub(super) async fn make_first_account(platform: &Platform, simulator: &Simulator) -> Result<()> {
    let merchant = MerchantId::fallback();
    if !platform.gateway_accounts(Some(&merchant)).await?.is_empty() {
        return Ok(());
    }
    let account = NewGatewayAccount {
        gateway: GATEWAY_NAME.to_owned(),
        name: FIRST_ACCOUNT.to_owned(),
        settings: String::from("{}"),
    };
    let account = platform
        .create_gateway_account(&merchant, account, None)
        .await?
        .value;
    platform.connect_simulated_account(simulator, account.id);
    Ok(())
}

/// Posts the simulator's callbacks to the API that listens on `address`.
pub(super) fn call_back(
    simulator: Simulator,
    address: SocketAddr,
    stopped: watch::Receiver<bool>,
) -> Result<JoinHandle<()>> {
    let sink = HttpSink::new(format!("http://{}", reachable(address)));
    let sink = Arc::new(sink.context("make an HTTP client")?);
    Ok(tokio::spawn(simulator.run(sink, ended(stopped))))
}

/// An address this process can call: one that listens on every interface listens on loopback too.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        let local: std::net::IpAddr = if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        };
        address.set_ip(local);
    }
    address
}

/// Reads the simulator's secret, or makes one that only its owner may read.
fn secret(data: &Path) -> Result<Vec<u8>> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = data.join(SECRET_FILE);
    if path.exists() {
        return std::fs::read(&path).with_context(|| format!("read {}", path.display()));
    }
    let secret: [u8; 32] = rand::random();
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| file.write_all(&secret));
    written.with_context(|| format!("write {}", path.display()))?;
    Ok(secret.to_vec())
}
