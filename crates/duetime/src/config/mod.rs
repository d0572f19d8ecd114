//! Reads the configuration: every source is checked once and becomes one [`Config`] passed by value.

mod arguments;
mod check;
mod keys;
mod kind;
mod pages;
mod resolve;
mod settings;
mod source;
mod suggest;
mod units;

pub(crate) use self::arguments::{ConfigArguments, PrintArguments};
pub(crate) use self::pages::{example, reference};
pub(crate) use self::resolve::{Config, Log, LogFormat};
pub(crate) use self::settings::{Settings, Sources, load};
pub(crate) use self::source::FlagValue;
pub(crate) use self::units::{format_duration, parse_duration_ms, parse_size_bytes};

#[cfg(test)]
mod tests;
