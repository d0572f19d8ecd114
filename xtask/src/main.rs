//! Provides the development commands: `cargo xtask ci`, `tidy`, `apis`, `examples`, `interop` and `peers`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command for developers reports on its terminal"
)]

mod ci;
mod interop;
mod peers;
mod tally;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
The development commands of Duetime.

  cargo xtask ci [STEP...]   runs every check, or only the named steps
  cargo xtask ci --quick     runs the checks that need nothing but Rust: format, tidy, clippy, docs, tests
  cargo xtask ci --list      lists the steps
  cargo xtask apis           sends requests made from the OpenAPI documents to a server of its own
  cargo xtask examples       runs what is in examples/ against a server of its own
  cargo xtask interop [LANGUAGE...]   runs the official RocketMQ clients against a server
  cargo xtask peers          runs Duetime's own client against Apache RocketMQ
  cargo xtask tidy           checks what compiler and lints cannot: arrows, circles, sizes, licences, words, dead files

Exit codes: 0 all passed, 1 something failed, 2 wrong usage.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let passed = match words.as_slice() {
        ["ci", "--list"] => {
            ci::list();
            Ok(true)
        }
        ["ci", "--quick"] => Ok(ci::run(&root(), &ci::quick())),
        ["ci", names @ ..] => match ci::select(names) {
            Ok(steps) => Ok(ci::run(&root(), &steps)),
            Err(message) => return wrong_usage(&message),
        },
        ["interop", languages @ ..] => interop::run(&root(), languages),
        ["apis", flags @ ..] => interop::apis::run(&root(), flags),
        ["examples", flags @ ..] => interop::examples::run(&root(), flags),
        ["peers"] => peers::run(&root()),
        ["tidy"] => tidy::run(&root()),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(true)
        }
        [] => return wrong_usage("a command is missing"),
        [unknown, ..] => return wrong_usage(&format!("unknown command \"{unknown}\"")),
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn wrong_usage(message: &str) -> ExitCode {
    eprintln!("error: {message}\n\n{USAGE}");
    ExitCode::from(2)
}

/// The folder of the workspace: the parent of this crate's.
fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}
