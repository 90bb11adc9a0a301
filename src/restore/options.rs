//! How a disk is to be restored.

use std::num::NonZeroUsize;

use crate::formats::{Access, Format};
use crate::output::Cleanup;
use crate::volumes::Wanted;

/// How a disk is restored.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, set by name")]
pub struct Options {
    /// What the image is; if not given, what it begins like.
    pub format: Option<Format>,
    /// Which state of the disk, and which files besides the image may be opened for it.
    pub access: Access,
    /// Which bytes of the disk are restored; the target begins with the first of them.
    pub wanted: Wanted,
    /// Whether to bring the target to stable storage.
    pub sync: bool,
    /// Whether to read the target back, and to compare it with what was written. It is then synced in any case.
    pub verify: bool,
    /// Whether to go on where the image is damaged, with zeros for what cannot be read.
    pub keep_going: bool,
    /// Whether to leave what the image records as free as it is on a block device.
    pub used_only: bool,
    /// Whether to make the GPT of the disk fit a device that is larger or smaller.
    pub fit: bool,
    /// Whether to give the disk and what it holds new identifiers, as far as that is safe, so that the target can stand
    /// beside the original in one machine.
    pub new_ids: bool,
    /// Whether to restore to a smaller device although a volume would be cut off, or a disk to a device on which no program will find its partitions, because sectors have another
    /// size there.
    pub force: bool,
    /// Whether to leave alone what exists.
    pub no_clobber: bool,
    /// Replace an existing file even if it begins like an image of a known format, and a block device whatever it holds.
    /// Without it, such a file is refused, and so is a device that holds anything that is recognised.
    pub overwrite: bool,
    /// How many workers read and decompress; as many as there are processors if not given, and at most 8.
    pub threads: Option<NonZeroUsize>,
    /// What a program that is told to die must remove first, and what it left if it could not.
    pub cleanup: Cleanup,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            format: None,
            access: Access::default(),
            wanted: Wanted::Whole,
            sync: true,
            verify: false,
            keep_going: false,
            used_only: false,
            fit: false,
            new_ids: false,
            force: false,
            no_clobber: false,
            overwrite: false,
            threads: None,
            cleanup: Cleanup::default(),
        }
    }
}
