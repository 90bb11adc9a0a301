//! Buffers that are used again, so that no memory is cleared or given back to the system on the way.

use crate::idle::Idle;

/// A store of buffers; there are as many as were ever in use at the same time.
#[derive(Debug, Default)]
pub struct Buffers {
    idle: Idle<Vec<u8>>,
}

impl Buffers {
    /// A buffer of `length` bytes, whatever they are.
    pub fn take(&self, length: usize) -> Vec<u8> {
        let mut buffer = self.idle.take().unwrap_or_default();
        buffer.resize(length, 0);
        buffer
    }

    /// Takes back a buffer that is no longer needed.
    pub fn give(&self, buffer: Vec<u8>) {
        // One that was given back early has left an empty one in its place.
        if buffer.capacity() > 0 {
            self.idle.give(buffer);
        }
    }
}
