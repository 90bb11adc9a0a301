//! Sectors and blocks with structures: as they are on the disk, or as they will be once the log was replayed.

use super::age;
use super::checksum;
use super::replay::Replay;
use super::superblock::Superblock;
use crate::error::Expected;
use crate::units::Exact;
use crate::volumes::doubt::Doubt;
use crate::volumes::view::View;

/// Where structures are read from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks<'a> {
    pub(super) view: View<'a>,
    pub(super) superblock: &'a Superblock,
    /// The log sequence number that comes next.
    pub(super) head: u64,
    pub(super) replay: Option<&'a Replay>,
}

impl Blocks<'_> {
    /// A structure, whose checksum stands in it at an offset.
    ///
    /// Of what the log changes, the checksum is that of before, if it was of this filesystem before.
    pub(super) fn read(
        &self,
        structure: &'static str,
        at: u64,
        length: u64,
        sum_at: u64,
    ) -> Result<Vec<u8>, Doubt> {
        let mut bytes = self.view.bytes(structure, at, length)?;
        let changed = self
            .replay
            .filter(|replay| replay.changes(&(at..at.plus(length))));
        if self.superblock.has_crcs {
            let written = age::written(&bytes, self.superblock);
            if changed.is_none() || written.is_some() {
                checksum::check(self.view, structure, at, &bytes, sum_at)?;
            }
            let written = written.unwrap_or(0);
            if written > self.head && written != u64::MAX {
                return Err(Doubt::Field {
                    structure,
                    at: self.view.position(at),
                    field: "lsn",
                    found: written,
                    expected: Expected::Between(0, self.head),
                });
            }
        }
        if let Some(replay) = changed {
            replay.apply(at, &mut bytes);
        }
        Ok(bytes)
    }
}
