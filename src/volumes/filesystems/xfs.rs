//! XFS: a block is free if the tree of free space lists it. Sources: Linux, `fs/xfs/libxfs/xfs_format.h` and what it
//! names; the XFS Algorithms & Data Structures document.
//!
//! Blocks that are kept for trees (the AGFL) are in no tree of free space, and count as used; so do all headers. A log
//! that is not empty is replayed in memory, as mounting does. Then a block is free if it is on the disk and after that,
//! and nothing in the log names it.
//!
//! ```text
//! superblock -> log -> transactions -> items -> what changes -> AGF -> bnobt = cntbt -> the map
//! ```

mod age;
mod blocks;
mod btree;
mod checksum;
mod group;
mod items;
mod log;
mod replay;
mod superblock;

use zerocopy::FromBytes;

use crate::volumes::answer::Answer;
use crate::volumes::builder::MapBuilder;
use crate::volumes::doubt::Doubt;
use crate::volumes::fields;
use crate::volumes::region::Detail;
use crate::volumes::scheme::{Found, Read, Scheme, Usage};
use crate::volumes::view::View;
use blocks::Blocks;
use log::Log;
use replay::Replay;
use superblock::{MAGIC, RawSuperblock, Superblock};

pub(in crate::volumes) const SCHEME: Scheme = Scheme {
    name: "XFS",
    is,
    read: Read::Alone(read),
    glance: Some(glance),
    renew: None,
    tool: "xfs_admin -U generate DEVICE",
};

fn is(view: View<'_>) -> Answer {
    view.has(0, MAGIC)
}

fn glance(view: View<'_>) -> Result<Found, Doubt> {
    Ok(Found {
        label: Superblock::read(view)?.label(),
        ..Found::named(SCHEME.name, Usage::Opaque)
    })
}

fn read(view: View<'_>) -> Result<Found, Doubt> {
    let superblock = Superblock::read(view)?;
    let log = Log::find(view, &superblock)?;
    let mut map = MapBuilder::new(superblock.size());
    let replay = Replay::of(view, &superblock, &log, &mut map)?;
    let blocks = Blocks {
        view,
        superblock: &superblock,
        head: log.head(),
        replay: Some(&replay),
    };
    check_replayed(blocks)?;
    let mut free = 0_u64;
    for number in 0..superblock.ag_count {
        free = free.saturating_add(group::read(blocks, number, &mut map)?);
        if replay.changes(&superblock.group(number)) {
            group::add_used_on_disk(blocks, number, &mut map);
        }
    }
    // Mounting counts anew if there is anything in the log.
    if log.is_clean() && free != superblock.free {
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

/// Makes sure that nothing lies elsewhere once the log was replayed.
fn check_replayed(blocks: Blocks<'_>) -> Result<(), Doubt> {
    let (view, superblock) = (blocks.view, blocks.superblock);
    let bytes = blocks.read(superblock::STRUCTURE, 0, superblock.sector_size, superblock::SUM)?;
    let elsewhere = Doubt::State("its log changes where it has its structures");
    let Ok((raw, _)) = RawSuperblock::read_from_prefix(&bytes) else {
        return Err(elsewhere);
    };
    if Superblock::of(view, &raw)?.agrees(superblock) {
        Ok(())
    } else {
        Err(elsewhere)
    }
}
