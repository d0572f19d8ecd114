//! Writes docs/compatibility.md, the page of what each client supports.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// The features that every program tries, in the order of the page: the name in its output, and the description.
pub(super) const FEATURES: &[(&str, &str)] = &[
    (
        "normal",
        "send, receive with tag, keys and properties, acknowledge",
    ),
    ("delay", "a delivery time, never early"),
    ("fifo", "the order within a message group"),
    (
        "transaction",
        "commit, rollback, and the check of an unfinished one",
    ),
    ("recall", "cancel a waiting message; the answer is exact"),
    (
        "redelivery",
        "delivered again after its invisible duration, as the next attempt",
    ),
    (
        "dead letter",
        "moved to `%DLQ%<group>` after the last attempt",
    ),
    ("push", "a push consumer, and its retry after a failure"),
    ("push fifo", "a push consumer in order"),
    ("tag filter", "one tag or another"),
    ("sql filter", "SQL92 over properties"),
    (
        "tls",
        "with the client's default settings, or the server's certificate where it verifies",
    ),
    ("credentials", "valid ones accepted, wrong ones refused"),
    ("unknown topic", "refused"),
    (
        "wrong type",
        "a message of another type than its topic's is refused",
    ),
    ("oversized body", "refused"),
    (
        "restart",
        "server killed and restarted under load: no acknowledged message is lost",
    ),
];

/// The result of each feature in a client's program: `ok`, `FAIL` or `none`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdicts(Vec<(String, String)>);

impl Verdicts {
    pub(super) fn record(&mut self, feature: &str, verdict: &str) {
        self.0.push((feature.to_owned(), verdict.to_owned()));
    }

    fn of(&self, feature: &str) -> Option<&str> {
        let mut verdicts = self.0.iter();
        verdicts.find_map(|(name, verdict)| (name == feature).then_some(verdict.as_str()))
    }

    /// Returns the features without a result.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let features = FEATURES.iter().map(|(feature, _)| *feature);
        features
            .filter(|feature| self.of(feature).is_none())
            .collect()
    }

    pub(crate) fn failed(&self) -> usize {
        let fails = self.0.iter().filter(|(_, verdict)| verdict == "FAIL");
        fails.count()
    }

    pub(crate) fn passed(&self) -> usize {
        self.0.len() - self.failed()
    }
}

/// One client on the page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its name for people.
    pub(crate) shown: String,
    /// Package and version, as the page writes them.
    pub(crate) client: String,
    pub(crate) verdicts: Verdicts,
}

/// Replaces the columns of the same names on the page; the others were written by other commands.
pub(crate) fn update(root: &Path, fresh: Vec<Column>) -> Result<()> {
    let path = root.join("docs/compatibility.md");
    let old = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut columns =
        read(&old).with_context(|| format!("{} is not a page of compatibility", path.display()))?;
    for column in fresh {
        match columns.iter_mut().find(|old| old.shown == column.shown) {
            Some(old) => *old = column,
            None => columns.push(column),
        }
    }
    fs::write(&path, page(&columns)).with_context(|| format!("write {}", path.display()))
}

/// How the page writes the verdicts.
const SIGNS: &[(&str, &str)] = &[("ok", "yes"), ("none", "-"), ("FAIL", "**no**")];

/// Reads the columns of a page.
fn read(page: &str) -> Option<Vec<Column>> {
    let clients = page.lines().filter_map(|line| line.strip_prefix("* "));
    let mut columns = clients
        .map(|line| {
            let (shown, client) = line.rsplit_once(": `")?;
            Some(Column {
                shown: shown.to_owned(),
                client: format!("`{client}"),
                verdicts: Verdicts::default(),
            })
        })
        .collect::<Option<Vec<Column>>>()?;
    for (feature, _) in FEATURES {
        let start = format!("| {feature}: ");
        // A feature that the page does not have yet has no result.
        let Some(line) = page.lines().find(|line| line.starts_with(&start)) else {
            continue;
        };
        let cells: Vec<&str> = line.split(" | ").skip(1).collect();
        for (column, cell) in columns.iter_mut().zip(cells) {
            let cell = cell.trim_end_matches(" |");
            let (verdict, _) = SIGNS.iter().find(|(_, sign)| *sign == cell)?;
            column.verdicts.record(feature, verdict);
        }
    }
    Some(columns)
}

/// Renders the page, without anything that differs from run to run.
fn page(columns: &[Column]) -> String {
    let mut page = String::from(
        "# Compatibility\n\nWritten by `cargo xtask interop`, which runs these clients, unmodified, against `duetime serve`, and by \
         `cargo xtask peers`, which runs\nDuetime's own client against Apache RocketMQ. \"yes\": tested, and works. \"-\": the client \
         does not support it.\nFor an unfinished transaction the test requires of Apache RocketMQ only the check and that it accepts the answer: in \
         some runs it records the\ncommit and delivers nothing.\n\n",
    );
    // Writing to a string cannot fail.
    for Column { shown, client, .. } in columns {
        let _ = writeln!(page, "* {shown}: {client}");
    }
    let names: Vec<&str> = columns.iter().map(|column| column.shown.as_str()).collect();
    let _ = writeln!(page, "\n| | {} |", names.join(" | "));
    let _ = writeln!(page, "|---|{}", "---|".repeat(columns.len()));
    for (feature, meaning) in FEATURES {
        let cells = columns.iter().map(|column| {
            let verdict = column.verdicts.of(feature).unwrap_or("FAIL");
            let sign = SIGNS.iter().find(|(name, _)| *name == verdict);
            sign.map_or("**no**", |(_, sign)| *sign)
        });
        let cells: Vec<&str> = cells.collect();
        let _ = writeln!(page, "| {feature}: {meaning} | {} |", cells.join(" | "));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(shown: &str, said: &[(&str, &str)]) -> Column {
        let mut verdicts = Verdicts::default();
        for (feature, verdict) in said {
            verdicts.record(feature, verdict);
        }
        Column {
            shown: shown.to_owned(),
            client: format!("`{shown}` 1.0"),
            verdicts,
        }
    }

    #[test]
    fn the_page_shows_the_verdicts() {
        let said = [("normal", "ok"), ("delay", "none"), ("fifo", "FAIL")];
        let column = column("one", &said);
        assert_eq!(column.verdicts.missing().len(), FEATURES.len() - 3);
        assert_eq!((column.verdicts.passed(), column.verdicts.failed()), (2, 1));
        let page = page(&[column]);
        for line in [
            "* one: `one` 1.0",
            "| normal: send, receive with tag, keys and properties, acknowledge | yes |",
            "| delay: a delivery time, never early | - |",
            "| fifo: the order within a message group | **no** |",
        ] {
            assert!(page.contains(line), "{page}");
        }
    }

    #[test]
    fn columns_of_others_are_kept() {
        let all = |shown, verdict| {
            let said = FEATURES.iter().map(|(feature, _)| (*feature, verdict));
            column(shown, &said.collect::<Vec<_>>())
        };
        let columns = [all("one", "ok"), all("two, against a: b", "none")];
        let text = page(&columns);
        assert_eq!(read(&text).unwrap(), columns);
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("docs")).unwrap();
        let path = folder.path().join("docs/compatibility.md");
        fs::write(&path, text).unwrap();
        update(folder.path(), vec![all("one", "FAIL")]).unwrap();
        let columns = read(&fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(columns[0].verdicts.failed(), FEATURES.len());
        assert_eq!(columns[1].verdicts.failed(), 0);
    }
}
