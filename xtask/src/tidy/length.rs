//! Checks the length of Rust files: a file that grows past the limit holds more than one idea.

use super::Problem;
use super::reach::{Reached, Use};
use super::tree::SourceFile;

/// Lines of a file without its test module.
const LINES_MAX: usize = 500;

/// Lines that even an exempt file, or a file of tests, may not pass.
const LINES_HARD_MAX: usize = 800;

const _: () = assert!(
    LINES_MAX < LINES_HARD_MAX,
    "the hard stop must lie above the limit"
);

/// Files that are tables of data rather than code; an entry leaves when its file is short again.
const TABLES: &[&str] = &[];

/// Finds files that are too long, and entries of the list of tables that are not needed.
pub(crate) fn check(files: &[SourceFile], reached: &Reached) -> Vec<Problem> {
    check_with(files, reached, TABLES)
}

fn check_with(files: &[SourceFile], reached: &Reached, tables: &[&str]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let is_test = reached.get(&file.path) == Some(&Use::Tests);
        let is_table = tables.contains(&file.path.as_str());
        let lines = if is_test {
            file.text.lines().count()
        } else {
            lines_without_tests(&file.text)
        };
        let lines_max = if is_test || is_table {
            LINES_HARD_MAX
        } else {
            LINES_MAX
        };
        if lines > lines_max {
            problems.push(Problem::new(
                &file.path,
                format!("{lines} lines, {lines_max} are allowed: split it by idea"),
            ));
        }
        if is_table && lines <= LINES_MAX {
            problems.push(Problem::new(
                &file.path,
                "this file is short enough to leave the list of tables in xtask/src/tidy/length.rs",
            ));
        }
    }
    for table in tables {
        if !files.iter().any(|file| file.path == *table) {
            problems.push(Problem::new(
                table,
                "this file is in the list of tables, but it is gone",
            ));
        }
    }
    problems
}

/// The lines before the test module, which is the last item of a file (clippy sees to that).
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    lines
        .windows(2)
        .position(|pair| {
            matches!(pair, ["#[cfg(test)]", item] if item.contains("mod ") && item.ends_with('{'))
        })
        .unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, code_lines: usize, test_lines: usize) -> SourceFile {
        let mut text = "let a = 1;\n".repeat(code_lines);
        if test_lines > 0 {
            text.push_str("#[cfg(test)]\nmod tests {\n");
            text.push_str(&"    assert!(true);\n".repeat(test_lines - 3));
            text.push_str("}\n");
        }
        SourceFile {
            path: path.to_owned(),
            text,
        }
    }

    fn product(path: &str) -> Reached {
        Reached::from([(path.to_owned(), Use::Product)])
    }

    #[test]
    fn limit_counts_code_and_not_the_test_module() {
        let at_limit = [file("a.rs", LINES_MAX, 2_000)];
        assert_eq!(check_with(&at_limit, &product("a.rs"), &[]), []);
        let above = [file("a.rs", LINES_MAX + 1, 0)];
        let problems = check_with(&above, &product("a.rs"), &[]);
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0]
                .message
                .starts_with("501 lines, 500 are allowed")
        );
    }

    #[test]
    fn table_may_be_longer_up_to_the_hard_stop() {
        let table = [file("t.rs", LINES_HARD_MAX, 0)];
        assert_eq!(check_with(&table, &product("t.rs"), &["t.rs"]), []);
        let above = [file("t.rs", LINES_HARD_MAX + 1, 0)];
        assert_eq!(check_with(&above, &product("t.rs"), &["t.rs"]).len(), 1);
    }

    #[test]
    fn list_of_tables_holds_no_needless_entry() {
        let short = [file("t.rs", 10, 0)];
        assert_eq!(check_with(&short, &product("t.rs"), &["t.rs"]).len(), 1);
        assert_eq!(check_with(&short, &product("t.rs"), &["gone.rs"]).len(), 1);
    }

    #[test]
    fn file_of_tests_has_the_hard_stop_only() {
        let tests_only = Reached::from([("tests.rs".to_owned(), Use::Tests)]);
        assert_eq!(
            check_with(&[file("tests.rs", LINES_HARD_MAX, 0)], &tests_only, &[]),
            []
        );
        assert_eq!(
            check_with(&[file("tests.rs", LINES_HARD_MAX + 1, 0)], &tests_only, &[]).len(),
            1
        );
    }
}
