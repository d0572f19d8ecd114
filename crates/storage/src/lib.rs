//! The `Store` of the engine on the embedded LSM store: partitions, durability, locking, bounded memory.
//!
//! One keyspace holds everything that is not a message, one more each partition of due times. A batch is
//! one entry of the store's journal and is applied whole or not at all. [`FjallStore::syncer`] gives the
//! handle that makes what was applied durable; it may be used by another thread meanwhile.

mod error;
mod fjall_store;
mod lock;

pub use error::OpenError;
pub use fjall_store::{Durability, FjallStore, StoreConfig, Syncer};
