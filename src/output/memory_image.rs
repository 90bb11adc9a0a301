//! An image in memory, for tests.

use std::fs::File;

use super::{Cleanup, ReadBack, WriteAt, temporary};
use crate::error::Result;
use crate::units::{HostOffset, to_usize};

/// An image in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryImage {
    pub(crate) bytes: Vec<u8>,
}

impl WriteAt for MemoryImage {
    fn write_at(&mut self, bytes: &[u8], at: HostOffset) -> Result<()> {
        let at = to_usize(at.0);
        self.bytes.resize(self.bytes.len().max(at + bytes.len()), 0);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&mut self, length: u64) -> Result<()> {
        self.bytes.resize(to_usize(length), 0);
        Ok(())
    }

    fn scratch(&self) -> Result<File> {
        let directory = File::open(std::env::temp_dir()).unwrap();
        temporary::scratch(&directory, "memory".as_ref(), &Cleanup::default())
    }
}

impl ReadBack for MemoryImage {
    fn read_at(&self, bytes: &mut [u8], at: HostOffset) -> Result<()> {
        let at = to_usize(at.0);
        bytes.copy_from_slice(&self.bytes[at..at + bytes.len()]);
        Ok(())
    }
}
