//! Defines the properties that front ends store with a message for their own use.

/// Prefix of the names of such properties; clients may not set them.
pub(crate) use broker::CARRIED_PREFIX;
