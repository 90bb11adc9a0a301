//! The root tree: where the other trees begin.

use super::item::{ROOT_ITEM, Root, is_alive};
use super::tree::{Cursor, Trees};
use super::tree_id;
use crate::units::to_u64;
use crate::volumes::doubt::Doubt;

/// How many trees are looked at: 8 MiB of their addresses.
const MAX_TREES: usize = 1 << 20;

/// Where trees begin.
#[derive(Debug)]
pub(super) struct Roots {
    pub(super) extents: Root,
    pub(super) devices: Root,
    /// None if there is none, or if it cannot be used.
    pub(super) free_space: Option<Root>,
    /// None if block groups are in the extent tree.
    pub(super) block_groups: Option<Root>,
    /// Logical addresses of blocks that must be in use: of the roots of all trees, and of the blocks of the root tree.
    pub(super) blocks: Vec<u64>,
}

impl Roots {
    pub(super) fn read(trees: Trees<'_>) -> Result<Self, Doubt> {
        let superblock = trees.superblock;
        let [mut extents, mut devices, mut free_space, mut block_groups] = [None; 4];
        let mut blocks = Vec::new();
        let mut cursor = Cursor::new(trees, superblock.root)?;
        while let Some(key) = cursor.key() {
            if key.kind == ROOT_ITEM {
                let Some(root) = Root::of_item(key.objectid, cursor.item()) else {
                    return Err(Doubt::State("its root tree has an item that is too short"));
                };
                match key.objectid {
                    tree_id::EXTENT => extents = Some(root),
                    tree_id::DEVICE => devices = Some(root),
                    tree_id::FREE_SPACE => free_space = Some(root),
                    tree_id::BLOCK_GROUP => block_groups = Some(root),
                    _ => {}
                }
                // Those that are being deleted, and those that a balance works with, may have lost theirs.
                if key.objectid != tree_id::RELOCATION && is_alive(cursor.item()) {
                    blocks.push(root.at);
                }
                if blocks.len() > MAX_TREES {
                    let (what, limit) = ("trees", to_u64(MAX_TREES));
                    return Err(Doubt::TooMany { what, limit });
                }
            }
            cursor.advance()?;
        }
        blocks.extend(cursor.into_read());
        let needed = |root: Option<Root>, why| root.ok_or(Doubt::State(why));
        let free_space = superblock
            .has_free_space_tree
            .then(|| needed(free_space, "it has no free space tree"));
        let block_groups = superblock
            .has_block_group_tree
            .then(|| needed(block_groups, "it has no block group tree"));
        Ok(Self {
            extents: needed(extents, "it has no extent tree")?,
            devices: needed(devices, "it has no device tree")?,
            free_space: free_space.transpose()?,
            block_groups: block_groups.transpose()?,
            blocks,
        })
    }
}
