//! Multiple mount protection. Source: the kernel's documentation of ext4, "Multiple Mount Protection".

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, LE, U32};

use super::blocks::Blocks;
use super::faults::Structure;
use super::superblock::Superblock;
use crate::units::to_usize;
use crate::volumes::doubt::Doubt;

/// The beginning of its block.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawMmp {
    /// 0x0: see [`MAGIC`].
    mmp_magic: U32<LE>,
    /// 0x4: counts up while the filesystem is mounted.
    mmp_seq: U32<LE>,
}

const _: () = assert!(size_of::<RawMmp>() == 8);

const MAGIC: u32 = 0x004d_4d50;

/// `mmp_seq` while e2fsck(8) is at work, or after it died.
const IN_CHECK: u32 = 0xe24d_4d50;

/// Makes sure that nobody is about to repair the filesystem. That it is mounted elsewhere, or was when it was copied,
/// is nothing that the journal does not tell better.
pub(super) fn check(superblock: &Superblock, blocks: &Blocks<'_>) -> Result<(), Doubt> {
    let Some(block) = superblock.mmp_block else {
        return Ok(());
    };
    let mut read = vec![0; to_usize(superblock.block_size)];
    blocks.read("MMP block", block, &mut read)?;
    let raw = RawMmp::read_from_prefix(&read).map_or_else(|_| RawMmp::new_zeroed(), |(raw, _)| raw);
    let place = Structure {
        name: "MMP block",
        at: blocks.position(block),
    };
    place.exactly("mmp_magic", raw.mmp_magic.get().into(), MAGIC.into())?;
    if raw.mmp_seq.get() == IN_CHECK {
        return Err(Doubt::State("e2fsck is checking it, or was interrupted"));
    }
    Ok(())
}
