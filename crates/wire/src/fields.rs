//! Defines the named parameters of a header, RocketMQ's `extFields`.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::fmt;
use std::str::FromStr;

/// A parameter that is missing or cannot be read. Its text is fit for the remark of a response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The request has no parameter of this name.
    #[error("the parameter {0} is missing")]
    Missing(&'static str),
    /// The value is not of the type that the parameter has.
    #[error("the parameter {name} is no {expected}: {value}")]
    Invalid {
        /// Name of the parameter.
        name: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What it is, cut to 64 characters.
        value: String,
    },
}

/// Parameters by name. Values are text, whatever a client wrote: numbers as decimal digits, and `true` or `false`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(BTreeMap<String, String>);

impl Fields {
    /// Sets a parameter.
    pub fn set(&mut self, name: impl Into<String>, value: impl fmt::Display) {
        self.0.insert(name.into(), value.to_string());
    }

    /// The value of a parameter, if it is there.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of a parameter that has to be there.
    pub fn text(&self, name: &'static str) -> Result<&str, FieldError> {
        self.get(name).ok_or(FieldError::Missing(name))
    }

    /// The number in a parameter that has to be there.
    pub fn number<T: FromStr>(&self, name: &'static str) -> Result<T, FieldError> {
        self.number_if_any(name)?.ok_or(FieldError::Missing(name))
    }

    /// The number in a parameter that may be absent or empty.
    pub fn number_if_any<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, FieldError> {
        match self.get(name).map(str::trim) {
            None | Some("") => Ok(None),
            Some(value) => match value.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(invalid(name, "number in range", value)),
            },
        }
    }

    /// The truth value of a parameter that may be absent, then false. C++ clients write `1` and `0`.
    pub fn flag(&self, name: &'static str) -> Result<bool, FieldError> {
        match self.get(name) {
            None | Some("" | "false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(value) => Err(invalid(name, "truth value", value)),
        }
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values, in the order of the names' bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.into_iter()
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = (&'a str, &'a str);
    type IntoIter = std::iter::Map<
        btree_map::Iter<'a, String, String>,
        fn((&'a String, &'a String)) -> (&'a str, &'a str),
    >;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

impl FromIterator<(String, String)> for Fields {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

fn invalid(name: &'static str, expected: &'static str, value: &str) -> FieldError {
    FieldError::Invalid {
        name,
        expected,
        value: value.chars().take(64).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_is_missing_or_wrong_is_named() {
        let mut fields = Fields::default();
        fields.set("queueId", -1);
        fields.set("batch", "1");
        fields.set("unitMode", "perhaps");
        fields.set("timestamp", "9".repeat(100));
        assert_eq!(fields.number::<i32>("queueId"), Ok(-1));
        assert_eq!(fields.flag("batch"), Ok(true));
        assert_eq!(fields.flag("absent"), Ok(false));
        assert_eq!(fields.text("topic"), Err(FieldError::Missing("topic")));
        let refused = [
            fields.flag("unitMode").unwrap_err().to_string(),
            fields.number::<i64>("timestamp").unwrap_err().to_string(),
            fields.number::<u16>("queueId").unwrap_err().to_string(),
        ];
        assert_eq!(
            refused,
            [
                "the parameter unitMode is no truth value: perhaps".to_owned(),
                format!(
                    "the parameter timestamp is no number in range: {}",
                    "9".repeat(64)
                ),
                "the parameter queueId is no number in range: -1".to_owned(),
            ]
        );
    }
}
