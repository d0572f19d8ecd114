//! Provides what is known of the disk: its free space, and whether a write has failed.

use crate::store::StoreError;

/// The disk below the store.
#[derive(Debug)]
pub(crate) struct Disk {
    free_bytes: u64,
    /// A write has failed: what the disk holds is not known, so nothing is written from then on.
    failed: bool,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            free_bytes: u64::MAX,
            failed: false,
        }
    }
}

impl Disk {
    /// Bytes free, as last measured.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.free_bytes
    }

    pub(crate) fn set_free_bytes(&mut self, free_bytes: u64) {
        self.free_bytes = free_bytes;
    }

    /// An error once a write has failed.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Failed {
                action: "was used after a write had failed",
                source: "what the disk holds is not known".into(),
            });
        }
        Ok(())
    }

    /// A write counts as failed until it has succeeded.
    pub(crate) fn write(
        &mut self,
        write: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.failed = true;
        write()?;
        self.failed = false;
        Ok(())
    }
}
