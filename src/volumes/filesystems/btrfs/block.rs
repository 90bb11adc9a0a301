//! Tree blocks: each is held to all that is known of it before it is read. Source: Linux,
//! `include/uapi/linux/btrfs_tree.h`, `struct btrfs_header`; `fs/btrfs/tree-checker.c`.

use super::item::{KEY, Key};
use super::superblock::Superblock;
use super::tree_id;
use crate::error::Expected;
use crate::units::{Exact, to_u64, to_usize};
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::{u8_at, u32_le, u64_le};
use crate::volumes::view::View;

// Where fields are, in bytes, and the lengths of the header, of the head of an item in a leaf, and of a pointer.
const FSID: usize = 32;
const BYTENR: usize = 48;
const FLAGS: usize = 56;
const GENERATION: usize = 80;
const OWNER: usize = 88;
const NRITEMS: usize = 96;
const LEVEL: usize = 100;
const HEADER: usize = 101;
const ITEM: usize = 25;
const POINTER: usize = 33;

/// The flag of a block that was written.
const WRITTEN: u64 = 1;

/// What leads to a block, and what it must be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pointer {
    /// Its logical address.
    pub(super) at: u64,
    /// The number of the tree.
    pub(super) owner: u64,
    /// Of the transaction that wrote it.
    pub(super) generation: u64,
    /// 0 for a leaf.
    pub(super) level: u8,
    /// Its first key; none is known of a root.
    pub(super) first: Option<Key>,
}

/// A block of a tree that is what leads to it says.
#[derive(Debug)]
pub(super) struct Block {
    bytes: Vec<u8>,
    /// Where it is on the device.
    pub(super) at: u64,
    pub(super) level: u8,
    /// How many items or pointers it has.
    pub(super) count: usize,
}

impl Block {
    /// The one at a place of the device.
    pub(super) fn read(
        view: View<'_>,
        superblock: &Superblock,
        pointer: &Pointer,
        at: u64,
    ) -> Result<Self, Doubt> {
        let structure = tree_id::structure(pointer.owner);
        let bytes = view.bytes(structure, at, superblock.node_size)?;
        superblock.sums.check(view, structure, at, &bytes)?;
        let field = |field, found, expected| Doubt::Field {
            structure,
            at: view.position(at),
            field,
            found,
            expected,
        };
        for (name, offset, expected) in [
            ("bytenr", BYTENR, pointer.at),
            ("generation", GENERATION, pointer.generation),
            ("owner", OWNER, pointer.owner),
        ] {
            let found = u64_le(&bytes, offset);
            if found != expected {
                return Err(field(name, found, Expected::Exactly(expected)));
            }
        }
        let level = u8_at(&bytes, LEVEL);
        if level != pointer.level {
            return Err(field(
                "level",
                level.into(),
                Expected::Exactly(pointer.level.into()),
            ));
        }
        let flags = u64_le(&bytes, FLAGS);
        if flags & WRITTEN == 0 {
            return Err(field(
                "flags",
                flags,
                Expected::That("those of a block that was written"),
            ));
        }
        let fsid = bytes.get(FSID..).unwrap_or_default();
        if !fsid.starts_with(&superblock.metadata_uuid) {
            return Err(Doubt::State("its trees have a block of another filesystem"));
        }
        let nritems = u32_le(&bytes, NRITEMS).into();
        let each = if level == 0 { ITEM } else { POINTER };
        let room = bytes.len().saturating_sub(HEADER).checked_div(each).unwrap_or(0);
        // Only a tree with nothing in it has a block with nothing in it: its root.
        let is_root_leaf = pointer.first.is_none() && level == 0;
        if to_usize(nritems) > room || (nritems == 0 && !is_root_leaf) {
            return Err(field("nritems", nritems, Expected::Between(1, to_u64(room))));
        }
        let block = Self {
            at,
            level,
            count: to_usize(nritems),
            bytes,
        };
        if let Some(number) = block.fault(pointer.first) {
            let expected = Expected::That("one that is right, behind the one before");
            return Err(field("item", to_u64(number), expected));
        }
        Ok(block)
    }

    /// The number of the first item or pointer that is not what it should be: ascending from the first, and its bytes
    /// right in front of those of the one before.
    fn fault(&self, first: Option<Key>) -> Option<usize> {
        let mut last = None;
        let mut end = self.bytes.len();
        (0..self.count).find(|number| {
            let key = self.key(*number);
            let is_first = *number > 0 || first.is_none_or(|first| first == key);
            let follows = last.is_none_or(|last| last < key);
            last = Some(key);
            let is_there = self.level > 0 || {
                let (start, length) = self.data_of(*number);
                let touches = start.checked_add(length) == Some(end);
                end = start;
                touches && start >= HEADER.plus(self.count.times(ITEM))
            };
            !(is_first && follows && is_there)
        })
    }

    /// The key of an item or a pointer.
    pub(super) fn key(&self, number: usize) -> Key {
        let each = if self.level == 0 { ITEM } else { POINTER };
        Key::read(&self.bytes, HEADER.plus(number.times(each)))
    }

    /// Where the bytes of an item begin, and how many it has.
    fn data_of(&self, number: usize) -> (usize, usize) {
        let at = HEADER.plus(number.times(ITEM)).plus(KEY);
        let [offset, length] = [at, at.plus(4)].map(|at| to_usize(u32_le(&self.bytes, at).into()));
        (HEADER.plus(offset), length)
    }

    /// The bytes of an item of a leaf.
    pub(super) fn item(&self, number: usize) -> &[u8] {
        let (start, length) = self.data_of(number);
        let rest = self.bytes.get(start..).unwrap_or_default();
        rest.get(..length).unwrap_or_default()
    }

    /// What a pointer of a block above the leaves leads to: the address, and the generation.
    pub(super) fn pointer(&self, number: usize) -> (u64, u64) {
        let at = HEADER.plus(number.times(POINTER)).plus(KEY);
        (u64_le(&self.bytes, at), u64_le(&self.bytes, at.plus(8)))
    }
}
