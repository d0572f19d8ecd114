//! Defines the results of a run, as a table for people and as JSON for programs.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// One measured number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
    /// What was measured, in a few words.
    pub(crate) note: String,
}

impl Figure {
    pub(crate) fn new(name: &str, value: f64, unit: &str, note: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            note: note.into(),
        }
    }
}

/// A number with grouped digits and three significant ones at least.
fn readable(value: f64) -> String {
    let decimals = match value.abs() {
        value if value >= 100.0 || value == 0.0 => 0,
        value if value >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text
        .split_once('.')
        .map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0
            && digit != '-'
            && (whole.len() - index).is_multiple_of(3)
            && !grouped.ends_with('-')
        {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match fraction {
        Some(fraction) => format!("{grouped}.{fraction}"),
        None => grouped,
    }
}

/// The results as an aligned table.
pub(crate) fn table(figures: &[Figure]) -> String {
    let name_width = figures
        .iter()
        .map(|figure| figure.name.len())
        .max()
        .unwrap_or(0);
    let values: Vec<_> = figures
        .iter()
        .map(|figure| readable(figure.value))
        .collect();
    let value_width = values.iter().map(String::len).max().unwrap_or(0);
    let unit_width = figures
        .iter()
        .map(|figure| figure.unit.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (figure, value) in figures.iter().zip(values) {
        let Figure {
            name, unit, note, ..
        } = figure;
        let line =
            format!("  {name:name_width$}  {value:>value_width$} {unit:unit_width$}  {note}\n");
        text.push_str(&line);
    }
    text
}

/// Writes the results as one JSON object: name -> value, and the list with units and notes.
pub(crate) fn write_json(path: &Path, figures: &[Figure]) -> anyhow::Result<()> {
    let mut object = serde_json::Map::new();
    for figure in figures {
        object.insert(figure.name.clone(), serde_json::json!(figure.value));
    }
    object.insert("figures".to_owned(), serde_json::to_value(figures)?);
    let text = serde_json::to_string_pretty(&object)?;
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (value, text) in [
            (0.0, "0"),
            (0.437, "0.44"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1_234.0, "1,234"),
            (159_000.4, "159,000"),
            (-1_234_567.0, "-1,234,567"),
        ] {
            assert_eq!(readable(value), text);
        }
    }

    #[test]
    fn the_table_is_aligned_and_the_json_has_the_names() {
        let figures = [
            Figure::new("send_per_s", 150_000.0, "/s", "fsync"),
            Figure::new("early", 0.0, "", "of 5"),
        ];
        assert_eq!(
            table(&figures),
            "  send_per_s  150,000 /s  fsync\n  early             0     of 5\n"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("figures.json");
        write_json(&path, &figures).unwrap();
        let json: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(json["send_per_s"], 150_000.0);
        assert_eq!(json["figures"][1]["note"], "of 5");
    }
}
