//! Faces the network for both APIs: accepts connections, speaks TLS beside clear text, serves HTTP.

pub mod accept;
pub mod instant;
pub mod reload;
pub mod tls;
