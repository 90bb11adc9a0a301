//! Btrfs on one device: what is in no chunk is free, and what is in none of the extents of a chunk. Sources: Linux,
//! `fs/btrfs`, `include/uapi/linux/btrfs_tree.h`; the on-disk format in the documentation of Btrfs.
//!
//! ```text
//! superblock -> chunks -> root tree -> device tree:      what is in no chunk
//!                                   -> block groups:     how much of each chunk is in use
//!                                   -> extent tree:      which bytes these are
//!                                   -> free space tree:  the others
//!            -> log trees:          what was synced since the last transaction
//! ```
//!
//! All of them must agree. Trees of earlier transactions do not matter: what they freed is used again only when the
//! superblock leads to the next one.

mod block;
mod checksum;
mod chunk_tree;
mod chunks;
mod device;
mod extents;
mod features;
mod free_space;
mod groups;
mod item;
mod log;
mod raw_superblock;
mod roots;
mod superblock;
mod tree;
mod tree_id;

use crate::units::{claimed_end, length};
use crate::volumes::answer::Answer;
use crate::volumes::builder::MapBuilder;
use crate::volumes::doubt::Doubt;
use crate::volumes::fields;
use crate::volumes::map::AllocationMap;
use crate::volumes::region::Detail;
use crate::volumes::scheme::{Found, Read, Scheme, Usage};
use crate::volumes::view::View;
use extents::Walk;
use free_space::FreeSpace;
use groups::Groups;
use raw_superblock::{MAGIC, MAGIC_AT};
use roots::Roots;
use superblock::Superblock;
use tree::Trees;

pub(in crate::volumes) const SCHEME: Scheme = Scheme {
    name: "Btrfs",
    is,
    read: Read::Alone(read),
    glance: Some(glance),
    renew: None,
    tool: "btrfstune -m DEVICE",
};

fn is(view: View<'_>) -> Answer {
    view.has(MAGIC_AT, MAGIC)
}

fn glance(view: View<'_>) -> Result<Found, Doubt> {
    Ok(Found {
        label: Superblock::read(view)?.label(),
        ..Found::named(SCHEME.name, Usage::Opaque)
    })
}

fn read(view: View<'_>) -> Result<Found, Doubt> {
    let superblock = Superblock::read(view)?;
    let chunks = chunk_tree::read(view, &superblock)?;
    let trees = Trees {
        view,
        superblock: &superblock,
        chunks: &chunks,
    };
    let map = map(trees)?;
    Ok(Found {
        name: SCHEME.name,
        label: superblock.label(),
        details: vec![Detail::new("uuid", fields::uuid(superblock.fsid))],
        content: Usage::Mapped(map),
    })
}

fn map(trees: Trees<'_>) -> Result<AllocationMap, Doubt> {
    let roots = Roots::read(trees)?;
    let mut map = MapBuilder::new(trees.superblock.size);
    let mut blocks = device::read(trees, roots.devices, &mut map)?;
    let mut groups = Groups::new(trees.chunks);
    if let Some(root) = roots.block_groups {
        blocks.extend(groups.read(trees, root)?);
    }
    let free_space = roots.free_space.map(|root| FreeSpace::new(trees, root));
    let free_space = free_space.transpose()?;
    let walk = Walk::new(trees, roots.extents, free_space, groups, &mut map)?;
    blocks.extend(walk.finish()?);
    blocks.extend(roots.blocks);
    log::read(trees, &mut map)?;
    let map = map.build();
    for at in blocks {
        check_used(trees, &map, at)?;
    }
    Ok(map)
}

/// Makes sure that a block of a tree is in use by the map that the trees tell.
fn check_used(trees: Trees<'_>, map: &AllocationMap, at: u64) -> Result<(), Doubt> {
    let range = at..claimed_end(at, trees.superblock.node_size);
    let is_used = trees.chunks.find(&range).is_some_and(|chunk| {
        chunk
            .places(&range)
            .all(|place| map.used_in(&place) == length(&place))
    });
    if is_used {
        return Ok(());
    }
    Err(Doubt::State("its extent tree lacks a block of a tree"))
}
