//! XFS: a block is free if the tree of free space lists it. Sources: Linux, `fs/xfs/libxfs/xfs_format.h` and what it
//! names; the XFS Algorithms & Data Structures document.
//!
//! Blocks that are kept for trees (the AGFL) are in no tree of free space, and count as used; so do all headers. The
//! map counts only if the log is empty: recovery may bring back what is free on the disk.

mod btree;
mod group;
mod log;
mod sector;
mod superblock;

use crate::volumes::answer::Answer;
use crate::volumes::builder::MapBuilder;
use crate::volumes::doubt::Doubt;
use crate::volumes::fields;
use crate::volumes::region::Detail;
use crate::volumes::scheme::{Found, Read, Scheme, Usage};
use crate::volumes::view::View;
use superblock::{MAGIC, Superblock};

pub(in crate::volumes) const SCHEME: Scheme = Scheme {
    name: "XFS",
    is,
    read: Read::Alone(read),
};

fn is(view: View<'_>) -> Answer {
    view.has(0, MAGIC)
}

fn read(view: View<'_>) -> Result<Found, Doubt> {
    let superblock = Superblock::read(view)?;
    log::check_clean(view, &superblock)?;
    let mut map = MapBuilder::new(superblock.size());
    let mut free = 0_u64;
    for number in 0..superblock.ag_count {
        free = free.saturating_add(group::read(view, &superblock, number, &mut map)?);
    }
    if free != superblock.free {
        return Err(Doubt::Count {
            what: "free blocks",
            recorded: superblock.free,
            counted: free,
        });
    }
    Ok(Found {
        name: SCHEME.name,
        label: superblock.label(),
        details: vec![Detail::new("uuid", fields::uuid(superblock.uuid))],
        content: Usage::Mapped(map.build()),
    })
}
