//! Faces the network for both APIs: accepts connections, speaks TLS beside clear text, serves HTTP.

pub mod accept;
pub mod admission;
pub mod api;
pub mod budget;
pub mod caller;
pub mod envelope;
pub mod extract;
pub mod health;
pub mod instant;
pub mod metrics;
pub mod object;
pub mod openapi;
pub mod problem;
pub mod reload;
pub mod serve;
mod strict;
pub mod tls;
