//! The B-tree that leads to the bitmaps of a space map. Source: `drivers/md/persistent-data/dm-btree-internal.h`,
//! `dm-space-map-common.h`.

use super::block::{self, BLOCK, Kind};
use crate::units::{Exact, to_u64, to_usize};
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::{u32_le, u64_le};
use crate::volumes::view::View;

/// How high a tree may be: with 126 entries in each node, 2^64 bitmaps need less.
const MAX_HEIGHT: usize = 10;

// Where fields of `struct node_header` are, in bytes.
const FLAGS: usize = 4;
const NR_ENTRIES: usize = 16;
const MAX_ENTRIES: usize = 20;
const VALUE_SIZE: usize = 24;
/// Where keys begin; values follow them.
const KEYS: usize = 32;

const INTERNAL: u32 = 1;
const LEAF: u32 = 2;

/// Where a bitmap is: `struct disk_index_entry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The block that it is in.
    pub(super) block: u64,
    /// How many of its entries are 0.
    pub(super) free: u32,
}

/// A node, as far as it makes sense.
#[derive(Debug)]
struct Node {
    bytes: Vec<u8>,
    is_leaf: bool,
    count: usize,
    max: usize,
    value_size: usize,
}

impl Node {
    fn read(view: View<'_>, number: u64) -> Result<Self, Doubt> {
        const FAULT: Doubt = Doubt::State("a B-tree of the thin pool is malformed");
        let bytes = block::read(view, number, Kind::Node)?;
        let (flags, value_size) = (u32_le(&bytes, FLAGS), u32_le(&bytes, VALUE_SIZE));
        let [count, max] = [NR_ENTRIES, MAX_ENTRIES].map(|at| to_usize(u32_le(&bytes, at).into()));
        let is_leaf = match (flags, value_size) {
            (LEAF, 16) => true,
            (INTERNAL, 8) => false,
            _ => return Err(FAULT),
        };
        let value_size = to_usize(value_size.into());
        let room = to_usize(BLOCK).minus(KEYS).checked_div(value_size.plus(8));
        if count == 0 || count > max || room.is_none_or(|room| max > room) {
            return Err(FAULT);
        }
        Ok(Self {
            bytes,
            is_leaf,
            count,
            max,
            value_size,
        })
    }

    fn key(&self, number: usize) -> u64 {
        u64_le(&self.bytes, KEYS.plus(number.times(8)))
    }

    /// Where a value begins.
    fn value(&self, number: usize) -> usize {
        KEYS.plus(self.max.times(8)).plus(number.times(self.value_size))
    }
}

/// Tells all entries in the order of their keys. Ends at the first that is not welcome; each leaf has one at least, so
/// that a tree which leads in a circle ends there as well.
pub(super) fn walk(
    view: View<'_>,
    root: u64,
    mut tell: impl FnMut(u64, Entry) -> Result<(), Doubt>,
) -> Result<(), Doubt> {
    let mut path = vec![(Node::read(view, root)?, 0)];
    while let Some((node, next)) = path.last_mut() {
        let number = *next;
        next.increase(1);
        if number >= node.count {
            path.pop();
            continue;
        }
        let value = node.value(number);
        if node.is_leaf {
            let entry = Entry {
                block: u64_le(&node.bytes, value),
                free: u32_le(&node.bytes, value.plus(8)),
            };
            tell(node.key(number), entry)?;
            continue;
        }
        let child = u64_le(&node.bytes, value);
        if path.len() >= MAX_HEIGHT {
            let (what, limit) = ("levels of a B-tree", to_u64(MAX_HEIGHT));
            return Err(Doubt::TooMany { what, limit });
        }
        path.push((Node::read(view, child)?, 0));
    }
    Ok(())
}
