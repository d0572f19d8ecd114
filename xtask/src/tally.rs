//! Defines the count of test cases, read from the lines that the test runner prints.

/// How many test cases passed and failed, and the names of the failed ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) failures: Vec<String>,
}

impl Tally {
    /// Takes one line of output into account.
    pub(crate) fn read_line(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some(rest) = line.strip_prefix("test result: ") {
            self.passed += count_before(rest, " passed");
            self.failed += count_before(rest, " failed");
        } else if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failures.push(name.to_owned());
        }
    }
}

/// The number right before `word`, 0 if there is none.
fn count_before(text: &str, word: &str) -> u64 {
    text.split(['.', ';'])
        .filter_map(|part| part.strip_suffix(word))
        .find_map(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_results_and_names() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test engine::never_early ... ok",
            "test engine::in_order ... FAILED",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test src/lib.rs - Broker (line 12) ... FAILED\r",
            "test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s",
            "a line of a test: 9 passed; 9 failed",
        ] {
            tally.read_line(line);
        }
        assert_eq!(tally.passed, 42);
        assert_eq!(tally.failed, 1);
        assert_eq!(
            tally.failures,
            ["engine::in_order", "src/lib.rs - Broker (line 12)"]
        );
    }
}
