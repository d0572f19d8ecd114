//! Gives the platform's accounts at the simulated gateway a gateway to speak through.

use std::sync::Arc;

use super::Simulator;
use crate::error::Result;
use crate::ids::GatewayAccountId;
use crate::platform::Platform;

/// What an account's kind of gateway is called if it is this one.
pub const GATEWAY_NAME: &str = "simulator";

impl Simulator {
    /// Lets the platform speak through this simulator for every account that is with it; answers how many there are.
    pub async fn open_accounts(&self, platform: &Platform) -> Result<usize> {
        let mut opened = 0;
        for account in platform.gateway_accounts(None).await? {
            if account.gateway == GATEWAY_NAME {
                self.open_account(platform, account.id);
                opened += 1;
            }
        }
        Ok(opened)
    }

    /// Lets the platform speak through this simulator for one account.
    pub fn open_account(&self, platform: &Platform, id: GatewayAccountId) {
        let id = id.to_string();
        let gateway = Arc::new(self.gateway(&id));
        platform.gateways().insert(id, gateway);
    }
}
