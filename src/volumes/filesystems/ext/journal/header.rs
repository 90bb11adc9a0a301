//! What blocks of the log begin with.

use zerocopy::{BE, FromBytes, Immutable, IntoBytes, KnownLayout, U32, Unaligned};

/// What every block of the log begins with that is no copy of a block of the filesystem.
pub(super) const MAGIC: u32 = 0xc03b_3998;

/// The head of such a block.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawHeader {
    /// 0: [`MAGIC`].
    pub(super) magic: U32<BE>,
    /// 4: 1 descriptor, 2 commit, 3 and 4 superblock of version 1 and 2, 5 revocation.
    pub(super) blocktype: U32<BE>,
    /// 8: the number of the transaction that it belongs to.
    pub(super) sequence: U32<BE>,
}

const _: () = assert!(size_of::<RawHeader>() == 12);
