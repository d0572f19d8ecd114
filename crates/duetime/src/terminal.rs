//! Writes data to standard output and notes to standard error.

use std::io::Write as _;

use crate::failure::Failure;

/// Writes data to standard output.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(bytes) {
        // A reader that has seen enough, `head` for instance, is no failure.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Work(error.into()))
        }
        _ => Ok(()),
    }
}

/// Writes a line for people to standard error.
pub(crate) fn note(text: &str) {
    // Without a standard error there is no place to report that.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
