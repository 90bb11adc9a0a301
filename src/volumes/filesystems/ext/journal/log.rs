//! The log: the blocks of a journal by their number.

use crate::units::{Exact, to_usize};
use crate::volumes::doubt::Doubt;
use crate::volumes::view::View;

/// Blocks of a journal that lie in a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogRun {
    /// The number of the first, in the journal.
    pub(super) logical: u64,
    /// The number of the first, in the filesystem.
    pub(super) physical: u64,
    /// How many.
    pub(super) blocks: u64,
}

/// The blocks of a journal.
#[derive(Debug)]
pub(super) struct Log<'a> {
    view: View<'a>,
    block_size: u64,
    /// How many blocks the filesystem has.
    filesystem: u64,
    /// How many blocks the log has.
    blocks: u64,
    /// Ascending in the journal, without gaps.
    runs: Vec<LogRun>,
    /// What of the filesystem is the journal's own: ascending.
    own: Vec<(u64, u64)>,
}

impl<'a> Log<'a> {
    /// The log that lies in `runs`, which cover its first `blocks` blocks. `tree` are the blocks that tell so. None of
    /// them is there twice: no log is longer than its filesystem.
    pub(super) fn new(
        view: View<'a>,
        block_size: u64,
        (filesystem, blocks): (u64, u64),
        runs: Vec<LogRun>,
        tree: &[u64],
    ) -> Result<Self, Doubt> {
        let of_tree = tree.iter().map(|block| (*block, block.plus(1)));
        let of_log = runs
            .iter()
            .map(|run| (run.physical, run.physical.plus(run.blocks)));
        let mut own: Vec<_> = of_tree.chain(of_log).collect();
        own.sort_unstable();
        let overlap = |pair: &[(u64, u64)]| matches!(pair, [(_, end), (start, _)] if start < end);
        if own.windows(2).any(overlap) {
            return Err(Doubt::State("its journal has a block more than once"));
        }
        Ok(Self {
            view,
            block_size,
            filesystem,
            blocks,
            runs,
            own,
        })
    }

    /// The size of a block, in bytes.
    pub(super) fn block_size(&self) -> u64 {
        self.block_size
    }

    /// How many blocks it has.
    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Leaves out what lies behind the first `blocks` blocks.
    pub(super) fn shorten(&mut self, blocks: u64) {
        self.blocks = self.blocks.min(blocks);
    }

    /// Where a block lies in the filesystem, in bytes; none if it is not of the log.
    fn place(&self, number: u64) -> Option<u64> {
        let behind = self.runs.partition_point(|run| run.logical <= number);
        let run = self.runs.get(behind.checked_sub(1)?)?;
        let within = number.checked_sub(run.logical)?;
        let physical = run.physical.checked_add(within)?;
        (within < run.blocks && number < self.blocks)
            .then(|| physical.checked_mul(self.block_size))
            .flatten()
    }

    /// Where a block lies, as messages have it.
    pub(super) fn position(&self, number: u64) -> u64 {
        self.view.position(self.place(number).unwrap_or_default())
    }

    /// What a block holds.
    pub(super) fn block(&self, number: u64) -> Result<Vec<u8>, Doubt> {
        let at = self
            .place(number)
            .ok_or(Doubt::State("its journal refers to blocks past its own end"))?;
        let mut block = vec![0; to_usize(self.block_size)];
        self.view.read("journal block", &mut block, at)?;
        Ok(block)
    }

    /// Whether a block of the filesystem can be in the log: the filesystem has it, and the journal is not in it.
    pub(super) fn can_hold(&self, home: u64) -> bool {
        let behind = self.own.partition_point(|(start, _)| *start <= home);
        let own = behind.checked_sub(1).and_then(|index| self.own.get(index));
        home < self.filesystem && own.is_none_or(|(_, end)| *end <= home)
    }
}
