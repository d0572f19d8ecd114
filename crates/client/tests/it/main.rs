//! Tests of the client against a `duetime serve` in a process of its own.

#[cfg(test)]
mod connecting;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod example;
#[cfg(test)]
mod pushing;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod sending;
#[cfg(test)]
mod transactions;
