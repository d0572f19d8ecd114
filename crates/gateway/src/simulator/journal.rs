//! Keeps the simulated gateway's books in a file, so that a restart of the process is none of the gateway's.
//!
//! A line of JSON says all about one attempt; the last one about it counts. The file is written anew at each start, with
//! one line for each attempt, and is not synced: no money is in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, ErrorKind, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::book::Book;

/// The form of the lines that this version writes and reads.
const FORMAT: u32 = 1;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: u32,
    /// What the faults of the attempts were drawn from.
    seed: u64,
}

/// The file with the books, open for more lines.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    /// Whether a line could not be written; later ones are not tried.
    failed: bool,
}

impl Journal {
    /// Reads the books from the file, if it exists, and writes it anew.
    pub(super) fn open(path: &Path, seed: u64, book: &mut Book) -> io::Result<Self> {
        match File::open(path) {
            Ok(file) => read(file, path, book)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let new = path.with_extension("new");
        write_all(&new, seed, book)?;
        fs::rename(&new, path)?;
        let file = OpenOptions::new().append(true).open(path)?;
        let failed = false;
        Ok(Self { file, failed })
    }

    /// Writes what the books say of an attempt now.
    pub(super) fn add(&mut self, book: &Book, attempt_id: &str) {
        if self.failed {
            return;
        }
        let Some(mut line) = book.entry(attempt_id) else {
            return;
        };
        line.push('\n');
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            // It goes on from memory: it is a simulator.
            self.failed = true;
            tracing::warn!(%error, "the simulator's books cannot be written and end here");
        }
    }
}

fn read(file: File, path: &Path, book: &mut Book) -> io::Result<()> {
    let mut lines = BufReader::new(file).split(b'\n');
    let Some(head) = lines.next() else {
        return Ok(());
    };
    let head: Head = serde_json::from_slice(&head?)
        .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    if head.format != FORMAT {
        let found = head.format;
        let detail = format!("the file has format {found}, this version reads {FORMAT}");
        return Err(io::Error::new(ErrorKind::InvalidData, detail));
    }
    let mut unreadable = 0_usize;
    for line in lines {
        let line = line?;
        let text = String::from_utf8_lossy(&line);
        // The process may have died in the middle of the last one.
        if !text.is_empty() && book.restore(&text).is_err() {
            unreadable += 1;
        }
    }
    if unreadable > 0 {
        tracing::warn!(unreadable, file = %path.display(), "some lines of the simulator's books cannot be read");
    }
    Ok(())
}

fn write_all(path: &Path, seed: u64, book: &Book) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let format = FORMAT;
    serde_json::to_writer(&mut file, &Head { format, seed })?;
    file.write_all(b"\n")?;
    for line in book.attempt_ids().filter_map(|id| book.entry(id)) {
        file.write_all(line.as_bytes())?;
        file.write_all(b"\n")?;
    }
    file.flush()
}
