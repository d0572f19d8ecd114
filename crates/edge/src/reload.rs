//! Reloads values when the files they are read from change.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// How often files are checked for changes, in ms.
const CHECK_INTERVAL_MS: u64 = 1_000;

/// The state of the files: when each was written, and its length.
type Mark = Vec<Option<(SystemTime, u64)>>;

/// Reads the value from its files.
type Load<T, E> = Box<dyn Fn(&[PathBuf]) -> Result<T, E> + Send + Sync>;

/// A value that is reloaded when its files change. They are checked when the value is read, at most once a second.
///
/// A std mutex: it is held while the files are read, which is short and rare, never across an await.
pub struct Reloaded<T, E> {
    files: Vec<PathBuf>,
    load: Load<T, E>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    mark: Mark,
    next_look_ms: u64,
}

impl<T, E> fmt::Debug for Reloaded<T, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Reloaded");
        shown.field("files", &self.files).finish_non_exhaustive()
    }
}

impl<T, E: fmt::Display> Reloaded<T, E> {
    /// Reads the value for the first time.
    pub fn open(
        files: Vec<PathBuf>,
        load: impl Fn(&[PathBuf]) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        // Marked before reading, so that what is written meanwhile is read again.
        let mark = mark(&files);
        let value = Arc::new(load(&files)?);
        Ok(Self {
            files,
            load: Box::new(load),
            state: Mutex::new(State {
                value,
                mark,
                next_look_ms: 0,
            }),
        })
    }

    /// Returns the current value. While the files cannot be read it is the last valid one.
    pub fn current(&self, now_ms: u64) -> Arc<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now_ms >= state.next_look_ms {
            state.next_look_ms = now_ms.saturating_add(CHECK_INTERVAL_MS);
            let mark = mark(&self.files);
            if mark != state.mark {
                // A failure is logged once, not at each check.
                state.mark = mark;
                match (self.load)(&self.files) {
                    Ok(value) => {
                        tracing::info!(files = ?self.files, "read changed files");
                        state.value = Arc::new(value);
                    }
                    Err(error) => {
                        tracing::warn!(files = ?self.files, %error, "read changed files; the old values stay in use");
                    }
                }
            }
        }
        Arc::clone(&state.value)
    }
}

fn mark(files: &[PathBuf]) -> Mark {
    let mark_one = |file: &PathBuf| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files.iter().map(mark_one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_reloaded_and_survives_an_invalid_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("number");
        std::fs::write(&file, "1").unwrap();
        let reloaded = Reloaded::open(vec![file.clone()], |files| {
            let text = std::fs::read_to_string(&files[0]).map_err(|error| error.to_string())?;
            text.parse::<u32>().map_err(|error| error.to_string())
        })
        .unwrap();
        assert_eq!(*reloaded.current(0), 1);
        std::fs::write(&file, "22").unwrap();
        assert_eq!(
            *reloaded.current(CHECK_INTERVAL_MS - 1),
            1,
            "not checked yet"
        );
        assert_eq!(*reloaded.current(CHECK_INTERVAL_MS), 22);
        std::fs::write(&file, "bad").unwrap();
        assert_eq!(*reloaded.current(10 * CHECK_INTERVAL_MS), 22);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(*reloaded.current(20 * CHECK_INTERVAL_MS), 22);
        std::fs::write(&file, "4444").unwrap();
        assert_eq!(*reloaded.current(30 * CHECK_INTERVAL_MS), 4_444);
    }
}
