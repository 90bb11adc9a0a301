//! ext2, ext3 and ext4: what their block bitmaps say, what they never do, and what files have in spite of them.
//! Source: the kernel's documentation of ext4.

mod bitmap;
mod blocks;
mod checksum;
mod claims;
mod extents;
mod faults;
mod features;
mod file;
mod fixed;
mod geometry;
mod groups;
mod identity;
mod inode;
mod inodes;
mod journal;
mod mmp;
mod raw_superblock;
mod superblock;

use crate::volumes::answer::Answer;
use crate::volumes::doubt::Doubt;
use crate::volumes::scheme::{Found, Read, Scheme, Usage};
use crate::volumes::view::View;
use blocks::Blocks;
use raw_superblock::{OFFSET, RawSuperblock};
use superblock::Superblock;

pub(in crate::volumes) const SCHEME: Scheme = Scheme {
    name: "ext2/3/4",
    is,
    read: Read::Alone(read),
    glance: Some(glance),
    renew: Some(identity::renew),
    tool: "e2fsck -f DEVICE && tune2fs -U random DEVICE",
};

fn is(view: View<'_>) -> Answer {
    view.looks(OFFSET, |raw: &RawSuperblock| superblock::looks_like_one(raw))
}

fn glance(view: View<'_>) -> Result<Found, Doubt> {
    let superblock = Superblock::read(&Blocks::on_disk(view, OFFSET))?;
    Ok(Found {
        label: superblock.label,
        ..Found::named(superblock.features.name(), Usage::Opaque)
    })
}

fn read(view: View<'_>) -> Result<Found, Doubt> {
    let blocks = Blocks::on_disk(view, OFFSET);
    if Superblock::is_journal_device(&blocks)? {
        return Ok(Found::named("jbd", Usage::Opaque));
    }
    let superblock = Superblock::read(&blocks)?;
    let blocks = Blocks::on_disk(view, superblock.block_size);
    let replay = journal::replay(&superblock, &blocks)?;
    let (superblock, blocks) = match &replay {
        Some(replay) => journal::apply(&superblock, blocks.after(replay))?,
        None => (superblock, blocks),
    };
    mmp::check(&superblock, &blocks)?;
    let (map, groups) = bitmap::map(&superblock, &blocks)?;
    let (map, missing) = inodes::join(&superblock, &blocks, &groups, &map)?;
    Ok(Found {
        name: superblock.features.name(),
        content: match missing {
            None => Usage::Mapped(map),
            Some(missing) => Usage::Corrected(map, missing.behind(view)),
        },
        label: superblock.label,
        details: Vec::new(),
    })
}
