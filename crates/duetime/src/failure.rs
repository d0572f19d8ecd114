//! Defines how a command fails, and the text of its error.

/// Why the command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments or the configuration cannot be used.
    Usage(anyhow::Error),
    /// It was tried and did not work.
    Work(anyhow::Error),
}

/// A failure because of what was typed or configured.
pub(crate) fn usage(text: impl std::fmt::Display) -> Failure {
    Failure::Usage(anyhow::anyhow!("{text}"))
}

/// A failure of what was tried.
pub(crate) fn failed(text: impl std::fmt::Display) -> Failure {
    Failure::Work(anyhow::anyhow!("{text}"))
}

/// The error with its causes; a cause that the text before it ends with is left out.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_printed_once() {
        let inner = anyhow::anyhow!("no such file");
        let error = inner
            .context("cannot read a: no such file")
            .context("start");
        assert_eq!(message(&error), "start: cannot read a: no such file");
    }
}
