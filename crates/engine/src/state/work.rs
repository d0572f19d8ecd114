//! Provides the count of the work of a step, so that no step of the broker takes long.

/// Bytes that cost as much as a row.
const BYTES_PER_UNIT: usize = 4_096;

/// Work since a step began, in units of about a microsecond of the writer.
#[derive(Debug)]
pub(crate) struct Work {
    spent: u64,
    limit: u64,
}

impl Default for Work {
    /// No limit: what is not driven in steps does all of its work at once.
    fn default() -> Self {
        Self {
            spent: 0,
            limit: u64::MAX,
        }
    }
}

impl Work {
    /// Begins a step that may spend `limit` units.
    pub(crate) fn begin(&mut self, limit: u64) {
        *self = Self { spent: 0, limit };
    }

    /// Lets the present step spend `limit` units since its beginning.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Lets what begins now spend `units`, if the step has a limit, but no more than the step; returns the limit of the
    /// step.
    pub(crate) fn narrow(&mut self, units: u64) -> u64 {
        let step_limit = self.limit;
        if step_limit < u64::MAX {
            let units = std::cmp::min(units, step_limit);
            self.limit = self.spent.saturating_add(units);
        }
        step_limit
    }

    pub(crate) fn spend(&mut self, units: u64) {
        self.spent = self.spent.saturating_add(units);
    }

    pub(crate) fn spent(&self) -> u64 {
        self.spent
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.spent >= self.limit
    }
}

/// The units of a row of `bytes`, read or written.
pub(crate) fn row_units(bytes: usize) -> u64 {
    1 + (bytes / BYTES_PER_UNIT) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_spent_at_its_limit_and_the_next_one_begins_anew() {
        let mut work = Work::default();
        work.spend(u64::MAX - 1);
        assert!(!work.is_spent());
        work.begin(3);
        work.spend(row_units(4_095));
        assert!(!work.is_spent());
        work.spend(row_units(4_096));
        assert_eq!((work.spent(), work.is_spent()), (3, true));
        work.set_limit(4);
        assert!(!work.is_spent());
        work.begin(1);
        assert_eq!((work.spent(), work.is_spent()), (0, false));
    }
}
