//! Buffers that are used again, so that no memory is cleared or given back to the system on the way.

use std::sync::{Mutex, PoisonError};

/// A store of buffers; there are as many as were ever in use at the same time.
#[derive(Debug, Default)]
pub struct Buffers {
    idle: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    /// A buffer of `length` bytes, whatever they are.
    pub fn take(&self, length: usize) -> Vec<u8> {
        // A list of idle buffers is as good after a panic elsewhere as before.
        let mut buffer = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_default();
        buffer.resize(length, 0);
        buffer
    }

    /// Takes back a buffer that is no longer needed.
    pub fn give(&self, buffer: Vec<u8>) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(buffer);
    }
}
