//! Provides the count of the bytes that messages take in memory.

/// Bytes of messages in memory, over all topics.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Bytes all queue heads hold.
    head_bytes: usize,
}

impl Memory {
    /// Bytes all queue heads hold.
    pub(crate) fn head_bytes(&self) -> usize {
        self.head_bytes
    }

    /// The head of a queue held `before` bytes and holds `after` bytes now.
    pub(crate) fn head_changed(&mut self, before: usize, after: usize) {
        self.head_bytes = self.head_bytes + after - before;
    }
}
