//! Implements the requests of clients and operators, one file per kind.

pub(crate) mod browse;
pub(crate) mod catalog;
pub(crate) mod change;
pub(crate) mod checks;
pub(crate) mod count;
pub(crate) mod dead_letters;
pub(crate) mod dedup;
pub(crate) mod give_back;
pub(crate) mod given_up;
pub(crate) mod histogram;
pub(crate) mod losses;
pub(crate) mod recall;
pub(crate) mod receive;
pub(crate) mod reset;
pub(crate) mod send;
pub(crate) mod settle;
pub(crate) mod stats;
pub(crate) mod timer;
pub(crate) mod transaction;
