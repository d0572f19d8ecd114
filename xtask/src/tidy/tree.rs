//! Provides the text files of the working tree.

use std::path::Path;

use anyhow::{Context, Result};

/// A text file of the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceFile {
    /// Relative to the workspace, with `/` between the parts.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl SourceFile {
    /// The part of the name after the last dot, empty if there is none.
    pub(crate) fn extension(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.extension() == "rs"
    }
}

/// What is read: sources, documents and scripts.
const EXTENSIONS: &[&str] = &[
    "rs", "toml", "sql", "md", "proto", "sh", "html", "css", "js", "yml",
];

/// Hidden folders that hold files of the project.
const HIDDEN: &[&str] = &[".cargo", ".ci", ".github"];

/// Reads the text files under `root`, sorted by path.
pub(crate) fn read(root: &Path) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    read_folder(root, "", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn read_folder(folder: &Path, prefix: &str, files: &mut Vec<SourceFile>) -> Result<()> {
    let shown = folder.display();
    for entry in std::fs::read_dir(folder).with_context(|| format!("list {shown}"))? {
        let entry = entry.with_context(|| format!("list {shown}"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry
            .file_type()
            .with_context(|| format!("look at {path}"))?;
        if kind.is_dir() {
            if is_ours(&entry.path(), &name) {
                read_folder(&entry.path(), &format!("{path}/"), files)?;
            }
            continue;
        }
        let mut file = SourceFile {
            path,
            text: String::new(),
        };
        if EXTENSIONS.contains(&file.extension()) || prefix == ".ci/" {
            file.text = std::fs::read_to_string(entry.path())
                .with_context(|| format!("read {} as UTF-8", file.path))?;
            files.push(file);
        }
    }
    Ok(())
}

/// Whether a folder belongs to the sources; cargo marks its target folders with a cache tag.
fn is_ours(folder: &Path, name: &str) -> bool {
    let hidden = name.starts_with('.') && !HIDDEN.contains(&name);
    !hidden && name != "node_modules" && !folder.join("CACHEDIR.TAG").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_sources_of_this_workspace() {
        let files = read(&crate::root()).unwrap();
        let has = |path: &str| files.iter().any(|file| file.path == path);
        assert!(has("xtask/src/tidy/tree.rs"));
        assert!(has("Cargo.toml"));
        assert!(has(".ci/run"));
        assert!(!files.iter().any(|file| file.path.starts_with("target/")));
    }
}
