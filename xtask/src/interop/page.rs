//! Writes down which client does what: docs/compatibility.md.

use std::fmt::Write as _;

use super::Language;

/// What every program tries, in the order of the page: the name it says, and what is meant.
pub(super) const FEATURES: &[(&str, &str)] = &[
    (
        "normal",
        "send, receive with tag, keys and properties, acknowledge",
    ),
    ("delay", "a delivery time, never early"),
    ("fifo", "the order within a message group"),
    (
        "transaction",
        "commit, rollback, and the question about an orphan",
    ),
    ("recall", "a waiting message taken back, truthfully"),
    (
        "redelivery",
        "again after its invisible duration, as the next attempt",
    ),
    ("dead letter", "after the last attempt to `%DLQ%<group>`"),
    ("push", "a push consumer, its retry after a failure"),
    ("push fifo", "a push consumer in order"),
    ("tag filter", "one tag or another"),
    ("sql filter", "SQL92 over properties"),
    (
        "tls",
        "with the client's default settings, or the server's certificate where it verifies",
    ),
    ("credentials", "right ones let in, wrong ones refused"),
    ("unknown topic", "refused"),
    (
        "wrong type",
        "a message of another type than its topic's refused",
    ),
    ("oversized body", "refused"),
    (
        "restart",
        "server killed and started again under load: nothing acknowledged is lost",
    ),
];

/// What one client said.
pub(super) struct Column<'a> {
    pub(super) language: &'a Language,
    /// Features and verdicts.
    pub(super) verdicts: Vec<(String, String)>,
}

impl Column<'_> {
    fn verdict(&self, feature: &str) -> Option<&str> {
        let mut verdicts = self.verdicts.iter();
        verdicts.find_map(|(name, verdict)| (name == feature).then_some(verdict.as_str()))
    }

    /// Features the client's program has said nothing of.
    pub(super) fn unsaid(&self) -> Vec<&'static str> {
        let features = FEATURES.iter().map(|(feature, _)| *feature);
        features
            .filter(|feature| self.verdict(feature).is_none())
            .collect()
    }
}

/// The page, without anything that differs from run to run.
pub(super) fn page(columns: &[Column<'_>]) -> String {
    let mut page = String::from(
        "# Compatibility\n\nWritten by `cargo xtask interop`, which runs these clients, unmodified, against `duetime serve`. \
         \"yes\": it was seen to work. \"-\": the client\ndoes not have it.\n\n",
    );
    // Writing to a string cannot fail.
    for Column { language, .. } in columns {
        let _ = writeln!(
            page,
            "* {}: `{}` {}",
            language.shown, language.package, language.version
        );
    }
    let names: Vec<&str> = columns.iter().map(|column| column.language.shown).collect();
    let _ = writeln!(page, "\n| | {} |", names.join(" | "));
    let _ = writeln!(page, "|---|{}", "---|".repeat(columns.len()));
    for (feature, meaning) in FEATURES {
        let cells = columns.iter().map(|column| match column.verdict(feature) {
            Some("ok") => "yes",
            Some("none") => "-",
            _ => "**no**",
        });
        let cells: Vec<&str> = cells.collect();
        let _ = writeln!(page, "| {feature}: {meaning} | {} |", cells.join(" | "));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_tells_what_was_seen() {
        let language = &super::super::LANGUAGES[0];
        let said = |feature: &str, verdict: &str| (feature.to_owned(), verdict.to_owned());
        let column = Column {
            language,
            verdicts: vec![
                said("normal", "ok"),
                said("delay", "none"),
                said("fifo", "FAIL"),
            ],
        };
        assert_eq!(column.unsaid().len(), FEATURES.len() - 3);
        let page = page(&[column]);
        for line in [
            "| normal: send, receive with tag, keys and properties, acknowledge | yes |",
            "| delay: a delivery time, never early | - |",
            "| fifo: the order within a message group | **no** |",
        ] {
            assert!(page.contains(line), "{page}");
        }
    }
}
