//! The entries of a table of any kind.

use std::ops::Range;

use crate::error::Result;
use crate::formats::HostFile;
use crate::formats::qcow2::structures::geometry::ENTRY;
use crate::formats::qcow2::structures::header::TableAt;
use crate::units::{Exact, HostOffset, to_usize};

/// How much of a table is read at a time, in bytes.
const PIECE: u64 = 256 << 10;

/// Pieces of this size are worth a question whether they are holes, in bytes.
pub(super) const WORTH_ASKING: u64 = 64 << 10;

/// Reads tables of numbers, one piece after the other.
#[derive(Debug, Default)]
pub(super) struct Entries {
    buffer: Vec<u8>,
}

impl Entries {
    /// Calls `each` with the number and the value of every entry in a range that is not 0.
    pub(super) fn each(
        &mut self,
        file: &HostFile,
        table: TableAt,
        range: Range<u64>,
        mut each: impl FnMut(u64, u64),
    ) -> Result<()> {
        let mut start = range.start;
        while start < range.end {
            let count = range.end.minus(start).min(PIECE / ENTRY);
            let at = table.at.0.plus(start.times(ENTRY));
            let bytes = self.piece(file, HostOffset(at), count.times(ENTRY))?;
            for (index, entry) in (start..).zip(numbers(bytes)) {
                if entry != 0 {
                    each(index, entry);
                }
            }
            start.increase(count);
        }
        Ok(())
    }

    /// A piece of a table, which lies within the file; nothing if it is known to be zeros.
    pub(super) fn piece(&mut self, file: &HostFile, at: HostOffset, bytes: u64) -> Result<&[u8]> {
        if bytes >= WORTH_ASKING && file.is_hole(at, bytes) {
            return Ok(&[]);
        }
        self.buffer.resize(to_usize(bytes), 0);
        file.read_exact(&mut self.buffer, at)?;
        Ok(&self.buffer)
    }
}

/// Big-endian numbers of 64 bits.
pub(super) fn numbers(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let (entries, _) = bytes.as_chunks();
    entries.iter().map(|entry| u64::from_be_bytes(*entry))
}
