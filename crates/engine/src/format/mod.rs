//! Defines what goes to disk and to clients as bytes: rows, their keys, handles.

pub(crate) mod codec;
pub(crate) mod handle;
pub(crate) mod hash;
pub(crate) mod keys;
pub(crate) mod message_id;
pub(crate) mod record;
