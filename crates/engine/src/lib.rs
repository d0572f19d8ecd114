//! The broker as a deterministic state machine over a small `Store` trait.
