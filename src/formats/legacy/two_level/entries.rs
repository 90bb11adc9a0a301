//! Tables, read from the begin to the end.

use crate::error::Result;
use crate::formats::HostFile;
use crate::formats::qcow2::structures::geometry::ENTRY;
use crate::formats::qcow2::structures::header::TableAt;
use crate::units::{Exact, to_usize};

/// How much of a table is read at a time, in bytes.
const PIECE: u64 = 256 << 10;

/// Reads one table after the other.
#[derive(Debug, Default)]
pub(super) struct Reader {
    buffer: Vec<u8>,
}

impl Reader {
    /// Calls `each` with the number and the bytes of every entry that is not 0, of a table that lies within the file.
    pub(super) fn each(
        &mut self,
        file: &HostFile,
        table: TableAt,
        mut each: impl FnMut(u64, [u8; 8]) -> Result<()>,
    ) -> Result<()> {
        let mut first = 0;
        while first < table.entries {
            let at = table.at + first.times(ENTRY);
            let count = table.entries.minus(first).min(PIECE / ENTRY);
            let bytes = count.times(ENTRY);
            if file.is_hole(at, bytes) {
                // Tables of a file that is all holes may have a gigabyte each.
                let data = file.next_data(at).map_or(u64::MAX, |data| data.start);
                let skipped = data.minus(at.0) / ENTRY;
                first.increase(skipped.max(count));
                continue;
            }
            self.buffer.resize(to_usize(bytes), 0);
            file.read_exact(&mut self.buffer, at)?;
            let (entries, _) = self.buffer.as_chunks();
            for (number, entry) in (first..).zip(entries) {
                if *entry != [0; 8] {
                    each(number, *entry)?;
                }
            }
            first.increase(count);
        }
        Ok(())
    }
}
