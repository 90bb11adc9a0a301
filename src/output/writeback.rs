//! Writing to the disk while the copying goes on.

use std::fs::File;
use std::num::NonZeroU64;
use std::ops::Range;

use rustix::fs::Advice;

use crate::units::{Exact, length};

/// Writing to the disk begins whenever this many bytes are behind, so that it overlaps with copying.
const WRITEBACK: u64 = 8 << 20;

/// Keeps what is in memory only from piling up, where it will be synced in the end anyway.
#[derive(Debug)]
pub(super) struct Writeback {
    is_wanted: bool,
    /// The range that was written last and may still be in memory only.
    behind: Range<u64>,
}

impl Writeback {
    pub(super) fn new(is_wanted: bool) -> Self {
        let behind = 0..0;
        Self { is_wanted, behind }
    }

    /// So many more bytes were written to the file at `at`.
    pub(super) fn wrote(&mut self, file: &File, at: u64, bytes: u64) {
        if self.behind.end != at {
            self.behind.start = at;
        }
        self.behind.end = at.plus(bytes);
        let length = length(&self.behind);
        if self.is_wanted && length >= WRITEBACK {
            // Starts writing, waits for nothing, and drops what is written already. Advice may be refused.
            let _ = rustix::fs::fadvise(file, self.behind.start, NonZeroU64::new(length), Advice::DontNeed);
            self.behind.start = self.behind.end;
        }
    }
}
