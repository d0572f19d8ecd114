//! Connects the gateway accounts at a simulator to it.

use std::sync::Arc;

use gateway::simulator::{GATEWAY_NAME, Simulator};

use crate::error::Result;
use crate::ids::GatewayAccountId;
use crate::platform::Platform;

impl Platform {
    /// Connects every account at the simulator to it; answers how many there are.
    pub async fn connect_simulator(&self, simulator: &Simulator) -> Result<usize> {
        let mut connected = 0;
        for account in self.gateway_accounts(None).await? {
            if account.gateway == GATEWAY_NAME {
                self.connect_simulated_account(simulator, account.id);
                connected += 1;
            }
        }
        Ok(connected)
    }

    /// Connects one account to the simulator.
    pub fn connect_simulated_account(&self, simulator: &Simulator, id: GatewayAccountId) {
        let id = id.to_string();
        let gateway = Arc::new(simulator.gateway(&id));
        self.gateways().insert(id, gateway);
    }
}
