//! Defines the command line.

use clap::{Parser, Subcommand};

use crate::completions::CompletionArguments;
use crate::config::{ConfigArguments, PrintArguments};
use crate::{admin, demo};

/// Orders close on time; messages arrive in due time.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "duetime",
    version,
    help_template = "{about-with-newline}{usage-heading} {usage}\n{all-args}{after-help}",
    after_long_help = "Examples:\n  \
        duetime demo                                  watch 20,000 orders close on time\n  \
        duetime serve --data /var/lib/duetime         run the order platform\n  \
        duetime serve --set orders.deadline_default=15m\n  \
        duetime config --example > duetime.toml       a configuration file to start from\n  \
        duetime timer set reminders order-42 30m      set a timer on a running broker\n  \
        duetime refund list --state needs_operator    what waits for a person\n  \
        duetime completions bash > ~/.local/share/bash-completion/completions/duetime\n\n\
        Exit codes: 0 done, 1 failed, 2 wrong usage or configuration. Data goes to standard output,\n\
        everything else to standard error."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the order platform and its broker in this process
    Serve(ConfigArguments),
    /// Watch orders close on time, in a temporary folder
    Demo(demo::Arguments),
    /// Print the resolved configuration, each setting with its origin
    Config(PrintArguments),
    /// List, show, create and delete topics
    Topic(admin::TopicArguments),
    /// List, show, create, reset and delete consumer groups
    Group(admin::GroupArguments),
    /// Send, receive, find, recall and move messages
    Message(admin::MessageArguments),
    /// Set, show and cancel timers by key
    Timer(admin::TimerArguments),
    /// List, replay and purge dead letters
    Dlq(admin::DlqArguments),
    /// List, check, commit and roll back transactions given up
    Transaction(admin::TransactionArguments),
    /// List, show, watch, cancel and close orders; pause closing
    Order(admin::OrderArguments),
    /// List, create, retry, withdraw and settle refunds
    Refund(admin::RefundArguments),
    /// List and settle payment attempts and unmatched money
    Payment(admin::PaymentArguments),
    /// List and create products, change their stock
    Product(admin::ProductArguments),
    /// List and create merchants and their keys; audit trails
    Merchant(admin::MerchantArguments),
    /// List and publish messages that the broker refused
    Outbox(admin::OutboxArguments),
    /// Print the completion script for a shell
    Completions(CompletionArguments),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::reference;

    #[test]
    fn command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn short_help_fits_a_screen() {
        let mut command = Cli::command();
        command.build();
        for subcommand in command.get_subcommands_mut() {
            let lines = subcommand.render_help().to_string().lines().count();
            assert!(lines <= 24, "{} has {lines} lines", subcommand.get_name());
        }
        assert!(command.render_help().to_string().lines().count() <= 24);
    }

    #[test]
    fn long_help_shows_examples_that_can_be_typed() {
        let mut command = Cli::command();
        command.build();
        for name in [
            "topic",
            "group",
            "message",
            "timer",
            "dlq",
            "transaction",
            "order",
            "refund",
            "payment",
            "product",
            "merchant",
            "outbox",
        ] {
            let subcommand = command.find_subcommand_mut(name).unwrap();
            let help = subcommand.render_long_help().to_string();
            let examples: Vec<_> = help
                .lines()
                .filter_map(|line| line.strip_prefix("  duetime "))
                .collect();
            assert!(examples.len() >= 3, "{help}");
            for example in examples {
                // Two blanks separate the comment, `<` or `|` what the shell does.
                let typed = example.split("  ").next().unwrap();
                let typed = typed.split(['<', '|']).next().unwrap().replace('"', "");
                let words = typed.split_whitespace().map(str::to_owned);
                // Words of a quoted text count as one only in a shell. The first word is the command.
                let words = words.enumerate().filter(|(place, word)| {
                    *place == 0 || !["order", "42"].contains(&word.as_str())
                });
                let words = words.map(|(_, word)| word);
                let parsed =
                    Cli::try_parse_from(std::iter::once("duetime".to_owned()).chain(words));
                assert!(parsed.is_ok(), "{example}: {parsed:?}");
            }
        }
    }

    #[test]
    fn flags_of_the_reference_are_flags_of_the_commands() {
        let mut command = Cli::command();
        command.build();
        let serve = command.find_subcommand("serve").unwrap();
        for rest in reference().split("Flag: `--").skip(1) {
            let flag = rest.split('`').next().unwrap();
            assert!(
                serve
                    .get_arguments()
                    .any(|argument| argument.get_long() == Some(flag)),
                "{flag}"
            );
        }
    }
}
