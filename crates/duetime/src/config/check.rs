//! Checks what settings say together, once each of them is sound.

use std::time::Duration;

use server::grpc::HostPort;

use super::Config;
use super::units::{format_duration, format_size};

/// Checks what is said of doors and who may come in by them.
fn check_doors(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    let Config {
        grpc,
        http,
        tls,
        access,
        ..
    } = config;
    if let Some(Err(problem)) = grpc.advertise.as_ref().map(|text| text.parse::<HostPort>()) {
        problems.push(format!("grpc.advertise: {problem}"));
    }
    if tls.certificate.is_some() != tls.key.is_some() {
        problems.push("tls.certificate and tls.key are given both or neither".to_owned());
    }
    for (key, listen) in [("grpc.listen", grpc.listen), ("http.listen", http.listen)] {
        if !listen.ip().is_loopback() && access.accounts.is_none() && !access.open {
            problems.push(format!(
                "{key} is {listen}, which other machines reach, and there are no accounts: name a file in access.accounts, or say access.open = true if everybody shall be let in"
            ));
        }
    }
    problems
}

/// Checks the settings that must fit each other.
pub(super) fn check(config: &Config) -> Vec<String> {
    let mut problems = check_doors(config);
    let orders = &config.orders;
    let show = |duration: Duration| {
        format_duration(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    };
    if orders.deadline_min > orders.deadline_max {
        problems.push(format!(
            "orders.deadline_min is {}, above orders.deadline_max, which is {}",
            show(orders.deadline_min),
            show(orders.deadline_max)
        ));
    } else if !(orders.deadline_min..=orders.deadline_max).contains(&orders.deadline_default) {
        problems.push(format!(
            "orders.deadline_default is {}, outside of {} to {} (orders.deadline_min, orders.deadline_max)",
            show(orders.deadline_default),
            show(orders.deadline_min),
            show(orders.deadline_max)
        ));
    }
    // The broker holds the timer of every order, so it must take the farthest one.
    if orders.deadline_max > config.limits.delay {
        problems.push(format!(
            "orders.deadline_max is {}, above limits.delay, which is {}",
            show(orders.deadline_max),
            show(config.limits.delay)
        ));
    }
    if config.limits.body_bytes > config.limits.queue_heads_bytes {
        problems.push(format!(
            "limits.body is {}, above limits.queue_heads, which is {}",
            format_size(config.limits.body_bytes),
            format_size(config.limits.queue_heads_bytes)
        ));
    }
    problems
}
