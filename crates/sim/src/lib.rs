//! Deterministic simulator, model oracle and fault-injecting store.
