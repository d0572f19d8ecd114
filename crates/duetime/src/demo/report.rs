//! Formats the demo's report, which is readable without the documents.

use std::fmt::Write as _;

use orders::{Finding, Tally};

use super::load::Counters;
use super::scan::Scan;

/// The results of the demo.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    tally: Tally,
    findings: Vec<Finding>,
    /// Sorted.
    lags_ms: Vec<i64>,
    paid_last: u64,
    taken: u64,
    orders: u64,
    /// Deadline timers that found their order unpaid: each read one order row.
    fired: u64,
    scan: Option<Scan>,
}

impl Report {
    pub(crate) fn new(
        tally: Tally,
        findings: Vec<Finding>,
        mut lags_ms: Vec<i64>,
        counters: &Counters,
        fired: u64,
    ) -> Self {
        lags_ms.sort_unstable();
        Self {
            tally,
            findings,
            lags_ms,
            paid_last: counters.paid_last(),
            taken: counters.taken(),
            orders: counters.orders,
            fired,
            scan: None,
        }
    }

    pub(crate) fn with_scan(self, scan: Scan) -> Self {
        Self {
            scan: Some(scan),
            ..self
        }
    }

    /// The 99th percentile of the lateness of orders closed by timeout, in ms.
    pub(crate) fn lateness_p99_ms(&self) -> u64 {
        u64::try_from(self.quantile(0.99)).unwrap_or(0)
    }

    fn quantile(&self, quantile: f64) -> i64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index into a list of at most 200,000 entries"
        )]
        let index = (quantile * (self.lags_ms.len().saturating_sub(1)) as f64).round() as usize;
        self.lags_ms.get(index).copied().unwrap_or(0)
    }

    /// The invariants beside those the platform checks: a name, and whether it holds.
    fn outcomes(&self) -> [(&'static str, bool); 6] {
        let tally = &self.tally;
        let settled = tally.paid + tally.closed_by_timeout + tally.cancelled;
        [
            (
                "every order was paid or closed",
                settled == self.orders && tally.pending + tally.closing == 0,
            ),
            (
                "no timer came early",
                self.lags_ms.first().is_none_or(|lag_ms| *lag_ms >= 0),
            ),
            (
                "one coupon for each paid order",
                tally.coupons == tally.paid,
            ),
            (
                "every late payment was refunded",
                tally.payments_given_back == tally.payments_to_give_back,
            ),
            (
                "no payment the gateway took was lost",
                tally.payments == self.taken,
            ),
            (
                "no stock is still held",
                tally.held == 0 && tally.available + tally.sold == tally.stocked,
            ),
        ]
    }

    /// Whether everything holds.
    pub(crate) fn holds(&self) -> bool {
        self.findings.iter().all(|finding| finding.broken == 0)
            && self.outcomes().iter().all(|(_, holds)| *holds)
    }

    /// The report.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from("\n");
        for (name, value, more) in self.lines() {
            text.push_str(format!("  {name:<16}{value:<16}{more}").trim_end());
            text.push('\n');
        }
        text.push_str(&self.scan_text());
        text.push_str(&self.verdict());
        text
    }

    /// The lines of the report: a name, a value, and details.
    fn lines(&self) -> [(&'static str, String, String); 8] {
        let tally = &self.tally;
        let (p50, p99, max) = (self.quantile(0.5), self.quantile(0.99), self.quantile(1.0));
        let slowest = tally
            .slowest_refund_ms
            .map(|ms| format!(", slowest {}", seconds(ms)));
        let paid_and_closed = self.broken_count("an order is never both paid and closed");
        let closed_early = self.broken_count("no order is closed by timeout before its deadline");
        let conserved = if self.broken_count("stock is conserved") == 0 {
            "conserved"
        } else {
            "NOT CONSERVED"
        };
        let due = self.orders.saturating_sub(tally.paid + tally.cancelled);
        let refunded = if tally.payments_given_back == tally.payments_to_give_back {
            "all".to_owned()
        } else {
            grouped(tally.payments_given_back)
        };
        let returned = self
            .orders
            .saturating_sub(tally.stocked.saturating_sub(tally.available));
        [
            (
                "closed on time",
                format!("{} of {}", grouped(tally.closed_by_timeout), grouped(due)),
                format!("lateness p50 {p50} ms  p99 {p99} ms  max {max} ms"),
            ),
            (
                "cancelled",
                grouped(tally.cancelled),
                "by their buyers".into(),
            ),
            (
                "paid",
                grouped(tally.paid),
                format!(
                    "of them in the last 50 ms before the deadline: {}",
                    grouped(self.paid_last)
                ),
            ),
            (
                "paid too late",
                grouped(tally.payments_to_give_back),
                format!("{refunded} refunded{}", slowest.unwrap_or_default()),
            ),
            (
                "paid and closed",
                grouped(paid_and_closed),
                verdict(paid_and_closed),
            ),
            ("closed early", grouped(closed_early), verdict(closed_early)),
            (
                "stock",
                conserved.into(),
                format!(
                    "{} held = {} sold + {} returned",
                    grouped(self.orders),
                    grouped(tally.sold),
                    grouped(returned)
                ),
            ),
            (
                "coupons",
                format!("{} issued", grouped(tally.coupons)),
                "one per paid order".into(),
            ),
        ]
    }

    fn scan_text(&self) -> String {
        let Some(scan) = &self.scan else {
            return String::new();
        };
        let read = decimal(self.fired, self.tally.closed_by_timeout);
        let (polls, every_ms, scanned) = (
            grouped(scan.polls),
            scan.every_ms,
            decimal(scan.rows_read, scan.closed),
        );
        format!(
            "  {:<16}{read:<16}per closed order; an equally punctual indexed loop polled {polls} times,\n\
             {:34}every {every_ms} ms, and read {scanned}\n",
            "order rows read", ""
        )
    }

    fn verdict(&self) -> String {
        let rules = self.findings.len() + self.outcomes().len();
        let mut text = String::from("\n");
        if self.holds() {
            let _ = writeln!(text, "  All {rules} invariants hold.");
            return text;
        }
        for finding in self.findings.iter().filter(|finding| finding.broken > 0) {
            let (rule, broken, examples) =
                (finding.rule, finding.broken, finding.examples.join(" "));
            let _ = writeln!(text, "  BROKEN  {rule}: {broken} times, {examples}");
        }
        for (name, _) in self.outcomes().iter().filter(|(_, holds)| !holds) {
            let _ = writeln!(text, "  BROKEN  {name}");
        }
        text
    }

    fn broken_count(&self, rule: &str) -> u64 {
        self.findings
            .iter()
            .filter(|finding| finding.rule == rule)
            .map(|finding| finding.broken)
            .sum()
    }
}

fn verdict(broken: u64) -> String {
    if broken == 0 { "ok" } else { "BROKEN" }.to_owned()
}

/// A number with its digits in groups of three.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}

/// A quotient with two decimals.
fn decimal(dividend: u64, divisor: u64) -> String {
    let hundredths = (dividend * 100).checked_div(divisor).unwrap_or(0);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(tally: Tally, lags_ms: Vec<i64>) -> Report {
        Report::new(tally, Vec::new(), lags_ms, &Counters::new(10), 10)
    }

    fn sound() -> Tally {
        Tally {
            paid: 6,
            closed_by_timeout: 3,
            cancelled: 1,
            coupons: 6,
            stocked: 100,
            available: 94,
            sold: 6,
            ..Tally::default()
        }
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            (grouped(0), grouped(999), grouped(20_000)),
            ("0".into(), "999".into(), "20,000".into())
        );
        assert_eq!(
            (decimal(7_800, 7_800), decimal(1, 0), seconds(1_234)),
            ("1.00".into(), "0.00".into(), "1.2 s".into())
        );
    }

    #[test]
    fn a_sound_run_holds_and_every_broken_outcome_is_reported() {
        let text = report(sound(), vec![3, 1, 2]).text();
        assert!(
            text.contains("lateness p50 2 ms  p99 3 ms  max 3 ms"),
            "{text}"
        );
        assert!(text.contains("All 6 invariants hold."), "{text}");
        let broken = [
            (
                Tally {
                    paid: 5,
                    coupons: 5,
                    ..sound()
                },
                vec![1],
                "every order was paid or closed",
            ),
            (sound(), vec![-1, 2], "no timer came early"),
            (
                Tally {
                    coupons: 7,
                    ..sound()
                },
                vec![1],
                "one coupon for each paid order",
            ),
            (
                Tally {
                    payments_to_give_back: 1,
                    ..sound()
                },
                vec![1],
                "every late payment was refunded",
            ),
            (
                Tally {
                    payments: 1,
                    ..sound()
                },
                vec![1],
                "no payment the gateway took was lost",
            ),
            (
                Tally {
                    available: 93,
                    ..sound()
                },
                vec![1],
                "no stock is still held",
            ),
        ];
        for (tally, lags_ms, outcome) in broken {
            let report = report(tally, lags_ms);
            assert!(
                !report.holds() && report.text().contains(&format!("BROKEN  {outcome}")),
                "{outcome}"
            );
        }
    }

    #[test]
    fn a_broken_rule_names_what_breaks_it() {
        let finding = Finding {
            rule: "stock is conserved",
            broken: 2,
            examples: vec!["01".into()],
        };
        let report = Report::new(sound(), vec![finding], vec![1], &Counters::new(10), 10);
        let text = report.text();
        assert!(
            text.contains("NOT CONSERVED")
                && text.contains("BROKEN  stock is conserved: 2 times, 01"),
            "{text}"
        );
    }
}
