//! Provides what every command works with: the client of the API, and the printing of what it answers.

use serde_json::Value;

use super::api::{Access, Client, List};
use super::endpoint::Endpoint;
use super::format::View;
use crate::failure::Failure;
use crate::terminal::{note, print};

/// A command at work on one server.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) view: View,
    /// Whether to print JSON.
    pub(super) json: bool,
}

impl Session {
    pub(super) fn open(access: &Access) -> Result<Self, Failure> {
        Self::at(access.endpoint()?, access.json)
    }

    /// A command at work on the server; `json`: whether to print JSON.
    pub(super) fn at(endpoint: Endpoint, json: bool) -> Result<Self, Failure> {
        Ok(Self {
            client: Client::new(endpoint)?,
            view: View::of_this_machine(),
            json,
        })
    }

    /// Prints a value: as JSON, or as the text that `text` makes.
    pub(super) fn print(
        &self,
        value: &Value,
        text: impl FnOnce(&View) -> String,
    ) -> Result<(), Failure> {
        if self.json {
            return print_line(value);
        }
        print(text(&self.view).as_bytes())
    }

    /// Prints a list: as JSON lines, or as the text that `text` makes.
    pub(super) fn print_list(
        &self,
        list: &List,
        text: impl FnOnce(&View) -> String,
    ) -> Result<(), Failure> {
        if self.json {
            list.items.iter().try_for_each(print_line)?;
        } else if list.items.is_empty() {
            note("nothing found");
        } else {
            print(text(&self.view).as_bytes())?;
        }
        if list.more {
            note(&format!(
                "there are more than these {}; see --limit",
                list.items.len()
            ));
        }
        Ok(())
    }

    /// Notes on standard error what was done; with `--json` the outcome goes to standard output.
    pub(super) fn done(
        &self,
        value: &Value,
        text: impl FnOnce(&View) -> String,
    ) -> Result<(), Failure> {
        if self.json {
            return print_line(value);
        }
        note(&text(&self.view));
        Ok(())
    }
}

fn print_line(value: &Value) -> Result<(), Failure> {
    print(format!("{value}\n").as_bytes())
}
