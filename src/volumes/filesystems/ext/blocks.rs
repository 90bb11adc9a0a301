//! The blocks of a filesystem: as they are on the disk, or as they will be once the journal is replayed.

use std::fmt::Debug;

use super::raw_superblock::{OFFSET, RawSuperblock};
use crate::units::{claimed_size, to_u64, to_usize, within};
use crate::volumes::doubt::Doubt;
use crate::volumes::view::View;
use zerocopy::FromBytes;

/// What the replay of a journal leads to, without being written anywhere.
pub(in crate::volumes) trait Replay: Debug + Sync {
    /// What a block will hold; none if the journal does not say anything of it.
    ///
    /// # Errors
    ///
    /// A [`Doubt`] if the journal cannot be read.
    fn block(&self, block: u64) -> Result<Option<Vec<u8>>, Doubt>;
}

/// The blocks of a filesystem.
#[derive(Clone, Copy, Debug)]
pub(in crate::volumes) struct Blocks<'a> {
    view: View<'a>,
    block_size: u64,
    replay: Option<&'a dyn Replay>,
}

impl<'a> Blocks<'a> {
    /// As they are on the disk.
    pub(in crate::volumes) fn on_disk(view: View<'a>, block_size: u64) -> Self {
        Self {
            view,
            block_size,
            replay: None,
        }
    }

    /// As they will be.
    pub(in crate::volumes) fn after(self, replay: &'a dyn Replay) -> Self {
        Self {
            replay: Some(replay),
            ..self
        }
    }

    /// As they are on the disk all the same.
    pub(super) fn without_replay(self) -> Self {
        Self { replay: None, ..self }
    }

    /// The stretch that they lie in.
    pub(in crate::volumes) fn view(&self) -> View<'a> {
        self.view
    }

    /// Whether the journal changes them.
    pub(super) fn are_replayed(&self) -> bool {
        self.replay.is_some()
    }

    /// Where a block begins in the underlying file or device.
    pub(in crate::volumes) fn position(&self, block: u64) -> u64 {
        self.view.position(claimed_size(block, self.block_size))
    }

    /// Fills `buf`, which is as long as a whole number of blocks, with those from `first` on.
    pub(in crate::volumes) fn read(
        &self,
        structure: &'static str,
        first: u64,
        buf: &mut [u8],
    ) -> Result<(), Doubt> {
        self.view
            .read(structure, buf, claimed_size(first, self.block_size))?;
        if self.replay.is_some() {
            for (block, buf) in (first..).zip(buf.chunks_mut(to_usize(self.block_size))) {
                self.replayed(block, |bytes| copy(buf, bytes))?;
            }
        }
        Ok(())
    }

    /// The superblock, which begins in the midst of a block unless blocks have 1 KiB.
    pub(super) fn superblock(&self) -> Result<RawSuperblock, Doubt> {
        let mut raw: RawSuperblock = self.view.structure("superblock", OFFSET)?;
        let block = OFFSET.checked_div(self.block_size).unwrap_or(0);
        self.replayed(block, |bytes| {
            let at = to_usize(within(OFFSET, self.block_size));
            let found = bytes.get(at..).map(RawSuperblock::read_from_prefix);
            if let Some(Ok((found, _))) = found {
                raw = found;
            }
        })?;
        Ok(raw)
    }

    /// Hands over what the journal says that a block will hold, if it does.
    pub(super) fn replayed(&self, block: u64, use_it: impl FnOnce(&[u8])) -> Result<bool, Doubt> {
        let Some(replay) = self.replay else {
            return Ok(false);
        };
        let Some(bytes) = replay.block(block)? else {
            return Ok(false);
        };
        if to_u64(bytes.len()) != self.block_size {
            return Err(Doubt::State("its journal has blocks of another size"));
        }
        use_it(&bytes);
        Ok(true)
    }
}

/// Copies as much as both have.
fn copy(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}
