//! Provides the lock that keeps two processes out of one data folder, and the format marker beside it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::error::OpenError;

/// Format of the folder this version writes.
pub(crate) const FOLDER_FORMAT: u32 = 2;

const LOCK_FILE: &str = "duetime.lock";
const FORMAT_FILE: &str = "duetime.format";
const NEW_FORMAT_FILE: &str = "duetime.format.new";

/// Holds a data folder for this process until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

fn io(action: &'static str, folder: &Path) -> impl FnOnce(std::io::Error) -> OpenError {
    let path = folder.to_owned();
    move |source| OpenError::Io {
        action,
        path,
        source,
    }
}

impl FolderLock {
    pub(crate) fn take(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join(LOCK_FILE);
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let mut file = open.map_err(io("open the lock file", folder))?;
        if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error.kind() != ErrorKind::WouldBlock {
                return Err(io("lock the lock file", folder)(error.into()));
            }
            let mut process = String::new();
            // Its holder may not have written its number yet.
            let _ = file.read_to_string(&mut process);
            let process = process.trim().to_owned();
            let process = if process.is_empty() {
                "?".to_owned()
            } else {
                process
            };
            return Err(OpenError::InUse {
                path: folder.to_owned(),
                process,
            });
        }
        let write = |mut file: &File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&file).map_err(io("write the lock file", folder))?;
        Ok(Self { _file: file })
    }
}

/// Refuses a folder of a newer format, and marks a new one or one of an older format with the present format,
/// before anything else in it is changed.
pub(crate) fn check_format(folder: &Path) -> Result<(), OpenError> {
    let path = folder.join(FORMAT_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse::<u32>() {
            Ok(FOLDER_FORMAT) => Ok(()),
            Ok(format) if format < FOLDER_FORMAT => write_format(folder),
            _ => Err(OpenError::Newer {
                path: folder.to_owned(),
                found: text.trim().chars().take(20).collect(),
                supported: FOLDER_FORMAT,
            }),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => write_format(folder),
        Err(error) => Err(io("read the format file", folder)(error)),
    }
}

/// Writes the format file whole: a crash leaves the old one or the new one.
fn write_format(folder: &Path) -> Result<(), OpenError> {
    let new = folder.join(NEW_FORMAT_FILE);
    let mut file = File::create(&new).map_err(io("create the format file", folder))?;
    writeln!(file, "{FOLDER_FORMAT}").map_err(io("write the format file", folder))?;
    file.sync_all()
        .map_err(io("sync the format file", folder))?;
    std::fs::rename(&new, folder.join(FORMAT_FILE)).map_err(io("name the format file", folder))?;
    sync_folder(folder)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), OpenError> {
    let open = File::open(folder).and_then(|file| file.sync_all());
    open.map_err(io("sync the folder", folder))
}
