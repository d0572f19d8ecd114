//! Names the properties that front ends keep with a message for their own use.

/// Prefix of the names of such properties; no user may set one.
pub(crate) use broker::CARRIED_PREFIX;
