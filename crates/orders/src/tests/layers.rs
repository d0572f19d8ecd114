//! Checks the layers of the crate: SQL is in `store` alone, and `model` is plain data.

use std::path::{Path, PathBuf};

/// The source files of the crate without those of its tests, relative to `src`.
fn sources() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![src.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "tests") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&src).unwrap();
                let name = name.to_str().unwrap().replace('\\', "/");
                sources.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    sources
}

#[test]
fn sql_is_in_the_store_alone() {
    let sources = sources();
    assert!(sources.iter().any(|(name, _)| name == "store/orders.rs"));
    for (name, text) in sources {
        if !name.starts_with("store/") {
            for call in [
                "sql::query",
                "query_scalar",
                ".fetch_all(",
                ".execute(",
                "json_each",
            ] {
                assert!(!text.contains(call), "{name} contains {call}");
            }
        }
    }
}

#[test]
fn the_library_of_the_database_is_in_one_place() {
    for (name, text) in sources() {
        if !name.starts_with("store/sql/") {
            for library in ["sqlx", "rusqlite", "Sqlite"] {
                assert!(!text.contains(library), "{name} contains {library}");
            }
        }
    }
}

#[test]
fn the_model_uses_neither_the_database_nor_the_platform() {
    for (name, text) in sources() {
        if name.starts_with("model/") {
            for word in ["sqlx", "crate::store", "crate::platform", "crate::error"] {
                assert!(!text.contains(word), "{name} contains {word}");
            }
        }
    }
}
