//! The superblock: where the trees begin, and what the filesystem can. Source: Linux, `fs/btrfs/disk-io.c`, for what
//! makes it valid.
//!
//! The kernel mounts by the first one only; its copies at 64 MiB and 256 GiB are for repairs.

use zerocopy::{IntoBytes, LE, U64};

use super::checksum;
use super::features;
use super::item::Root;
use super::raw_superblock::{OFFSET, RawDevItem, RawSuperblock, SIZE, STRUCTURE, field};
use super::tree_id;
use crate::error::Expected;
use crate::units::{Exact, within};
use crate::volumes::doubt::Doubt;
use crate::volumes::fields;
use crate::volumes::view::View;

/// A filesystem whose superblock makes sense.
#[derive(Clone, Debug)]
pub(super) struct Superblock {
    pub(super) sums: checksum::Kind,
    /// The identity of the filesystem, and that in tree blocks.
    pub(super) fsid: [u8; 16],
    pub(super) metadata_uuid: [u8; 16],
    /// Of the last transaction.
    pub(super) generation: u64,
    /// In bytes.
    pub(super) sector_size: u64,
    /// Of tree blocks, in bytes.
    pub(super) node_size: u64,
    /// Of all extents, in bytes.
    pub(super) bytes_used: u64,
    /// Of the device, in whole sectors, in bytes: no more than the view has.
    pub(super) size: u64,
    pub(super) device: RawDevItem,
    pub(super) root: Root,
    pub(super) chunk_root: Root,
    pub(super) log_root: Option<Root>,
    /// Block groups have a tree of their own.
    pub(super) has_block_group_tree: bool,
    /// There is a tree of free space, and it can be used.
    pub(super) has_free_space_tree: bool,
    pub(super) system_chunks: Vec<u8>,
    label: [u8; 256],
}

impl Superblock {
    pub(super) fn read(view: View<'_>) -> Result<Self, Doubt> {
        let raw: RawSuperblock = view.structure(STRUCTURE, OFFSET)?;
        let Some(sums) = checksum::Kind::numbered(raw.csum_type.get().into()) else {
            let expected = Expected::AtMost(3);
            return Err(field(view, "csum_type", raw.csum_type.get().into(), expected));
        };
        sums.check(view, STRUCTURE, OFFSET, raw.as_bytes())?;
        let bytenr = raw.bytenr.get();
        if bytenr != OFFSET {
            return Err(field(view, "bytenr", bytenr, Expected::Exactly(OFFSET)));
        }
        let has = features::check(view, &raw)?;
        check_sizes(view, &raw)?;
        let metadata_uuid = if has.metadata_uuid {
            raw.metadata_uuid
        } else {
            raw.fsid
        };
        if raw.dev_item.fsid != metadata_uuid {
            return Err(Doubt::State("its device belongs to another filesystem"));
        }
        let (sector_size, total) = (u64::from(raw.sectorsize.get()), raw.dev_item.total_bytes.get());
        let size = total.minus(within(total, sector_size));
        view.holds("filesystem", 0, size)?;
        if size < OFFSET.plus(SIZE) {
            return Err(field(
                view,
                "total_bytes",
                total,
                Expected::AtLeast(OFFSET.plus(SIZE)),
            ));
        }
        let generation = raw.generation.get();
        let (root, chunk_root, log_root) = roots(&raw);
        let array_size = usize::try_from(raw.sys_chunk_array_size.get()).unwrap_or(usize::MAX);
        let Some(system_chunks) = raw.sys_chunk_array.get(..array_size) else {
            let expected = Expected::AtMost(2048);
            return Err(field(
                view,
                "sys_chunk_array_size",
                raw.sys_chunk_array_size.get().into(),
                expected,
            ));
        };
        Ok(Self {
            sums,
            fsid: raw.fsid,
            metadata_uuid,
            generation,
            sector_size,
            node_size: raw.nodesize.get().into(),
            bytes_used: raw.bytes_used.get(),
            size,
            device: raw.dev_item,
            root,
            chunk_root,
            log_root,
            has_block_group_tree: has.block_group_tree,
            has_free_space_tree: has.free_space_tree,
            system_chunks: system_chunks.to_vec(),
            label: raw.label,
        })
    }

    /// The name that its owner gave it.
    pub(super) fn label(&self) -> Option<String> {
        fields::label(&self.label)
    }
}

/// The roots of the root tree, the chunk tree and the tree of logs, which belongs to the transaction that was not
/// committed yet.
fn roots(raw: &RawSuperblock) -> (Root, Root, Option<Root>) {
    let root = |owner, at: U64<LE>, level, generation| Root {
        owner,
        at: at.get(),
        level,
        generation,
    };
    let generation = raw.generation.get();
    // One past 64 bits is that of no block.
    let open = generation.saturating_add(1);
    let log = root(tree_id::LOG, raw.log_root, raw.log_root_level, open);
    (
        root(tree_id::ROOT, raw.root, raw.root_level, generation),
        root(
            tree_id::CHUNK,
            raw.chunk_root,
            raw.chunk_root_level,
            raw.chunk_root_generation.get(),
        ),
        (log.at != 0).then_some(log),
    )
}

/// Makes sure that the sizes of sectors and tree blocks fit each other.
fn check_sizes(view: View<'_>, raw: &RawSuperblock) -> Result<(), Doubt> {
    let [sector, node, leaf] = [raw.sectorsize, raw.nodesize, raw.leafsize].map(|size| u64::from(size.get()));
    let is_one = |size: u64, least: u64| (least..=65536).contains(&size) && size.is_power_of_two();
    if !is_one(sector, 4096) {
        return Err(field(
            view,
            "sectorsize",
            sector,
            Expected::PowerOfTwo(4096, 65536),
        ));
    }
    if !is_one(node, sector) {
        return Err(field(view, "nodesize", node, Expected::PowerOfTwo(sector, 65536)));
    }
    if leaf != node {
        return Err(field(view, "leafsize", leaf, Expected::Exactly(node)));
    }
    Ok(())
}
