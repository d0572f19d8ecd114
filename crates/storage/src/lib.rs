//! The `Store` of the engine on the embedded LSM store.
