//! Checks settings that depend on each other, once each of them is valid alone.

use super::resolve::Config;
use super::units::{format_duration, format_size};

/// Smallest bound of `orders.clock_jump_max`, in ms: longer than the longest time between two sweeps.
const CLOCK_JUMP_MS_MIN: i64 = 2 * 86_400_000;

/// Checks the settings that must fit each other.
pub(super) fn check(config: &Config) -> Vec<String> {
    let mut problems = check_access(config);
    let show = |ms: i64| format_duration(u64::try_from(ms).unwrap_or_default());
    let orders = &config.orders;
    let deadlines = orders.deadline_min_ms..=orders.deadline_max_ms;
    if deadlines.is_empty() {
        problems.push(format!(
            "orders.deadline_min is {}, above orders.deadline_max, which is {}",
            show(orders.deadline_min_ms),
            show(orders.deadline_max_ms)
        ));
    } else if !deadlines.contains(&orders.deadline_default_ms) {
        problems.push(format!(
            "orders.deadline_default is {}, outside of {} to {} (orders.deadline_min, orders.deadline_max)",
            show(orders.deadline_default_ms),
            show(orders.deadline_min_ms),
            show(orders.deadline_max_ms)
        ));
    }
    // The clock is looked at with every commit, at the latest with each sweep.
    if (1..CLOCK_JUMP_MS_MIN).contains(&orders.clock_jump_max_ms) {
        problems.push(format!(
            "orders.clock_jump_max is {}: write at least {}, or 0s for no bound",
            show(orders.clock_jump_max_ms),
            show(CLOCK_JUMP_MS_MIN)
        ));
    }
    let limits = &config.broker.engine.limits;
    // The broker holds the timer of every order, so it must accept the farthest deadline.
    if u64::try_from(orders.deadline_max_ms).is_ok_and(|ms| ms > limits.delay_ms_max) {
        problems.push(format!(
            "orders.deadline_max is {}, above limits.delay, which is {}",
            show(orders.deadline_max_ms),
            format_duration(limits.delay_ms_max)
        ));
    }
    if limits.body_bytes_max > limits.held_bytes_max {
        problems.push(format!(
            "limits.body is {}, above limits.queue_heads, which is {}",
            format_size(limits.body_bytes_max as u64),
            format_size(limits.held_bytes_max as u64)
        ));
    }
    problems
}

/// Checks the certificate, and that other machines are let in on purpose only.
fn check_access(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    let Config {
        grpc,
        http,
        tls,
        access,
        ..
    } = config;
    if tls.certificate.is_some() != tls.key.is_some() {
        problems
            .push("tls.certificate and tls.key belong together: set both or neither".to_owned());
    }
    if tls.required && !tls.on {
        problems
            .push("tls.required is set, but tls.on is false: no call would be answered".to_owned());
    }
    if tls.required && config.gateway_simulator {
        problems.push("tls.required is set, but the payment gateway simulator, which calls back in clear text, is on: set orders.gateway_simulator = false".to_owned());
    }
    if config.gateway_simulator && !config.server.listen.ip().is_loopback() {
        problems.push(format!(
            "server.listen is {}, which other machines reach, but the payment gateway simulator is on, where every caller can pay without money: set orders.gateway_simulator = false",
            config.server.listen
        ));
    }
    for (key, listen) in [("grpc.listen", grpc.listen), ("http.listen", http.listen)] {
        if !listen.ip().is_loopback() && access.accounts.is_none() && !access.open {
            problems.push(format!(
                "{key} is {listen}, which other machines reach, but there are no accounts: name an accounts file in access.accounts, or set access.open = true to let everybody in"
            ));
        }
    }
    problems
}
