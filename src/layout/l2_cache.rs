//! The L2 tables that are not written yet, in memory that is reserved once.

use crate::formats::qcow2::structures::mapping::Entry;
use crate::units::{Exact, to_usize};

/// How many tables are flushed together.
const TABLES: u64 = 512;

/// The largest cache in bytes: fewer tables if clusters are larger than 128 KiB.
const MAX_BYTES: u64 = 64 << 20;

/// The largest cache and L1 table together in bytes; an L1 table has at most 32 MiB.
const MAX_WITH_L1: u64 = 72 << 20;

/// L2 tables, ascending.
#[derive(Debug)]
pub(super) struct L2Cache {
    table_size: usize,
    /// All tables there is room for, one after the other; zeros where no entry was set.
    bytes: Vec<u8>,
    /// For each table in use, the L1 entry it belongs to.
    tables: Vec<usize>,
    capacity: usize,
}

impl L2Cache {
    /// Room for 512 tables of `table_size` bytes, or fewer if no more than `needed` are needed.
    /// `l1_size` bytes are taken by the L1 table already.
    pub(super) fn new(table_size: u64, needed: u64, l1_size: u64) -> Self {
        let bytes = MAX_BYTES.min(MAX_WITH_L1.minus(l1_size));
        let capacity = TABLES.min(bytes / table_size).min(needed).max(1);
        Self {
            table_size: to_usize(table_size),
            bytes: vec![0; to_usize(capacity.times(table_size))],
            tables: Vec::with_capacity(to_usize(capacity)),
            capacity: to_usize(capacity),
        }
    }

    /// The L1 entry of the last table.
    pub(super) fn current(&self) -> Option<usize> {
        self.tables.last().copied()
    }

    /// Whether another table needs a flush first.
    pub(super) fn is_full(&self) -> bool {
        self.tables.len() == self.capacity
    }

    /// Begins a new table, behind all others.
    pub(super) fn begin(&mut self, table: usize) {
        assert!(!self.is_full(), "the cache is flushed before it overflows");
        self.tables.push(table);
    }

    /// Sets an entry of a table, which is one of those in the cache.
    pub(super) fn set(&mut self, table: usize, index: usize, entry: Entry) {
        let position = if self.current() == Some(table) {
            self.tables.len().minus(1)
        } else {
            let found = self.tables.binary_search(&table);
            found.expect("a table stays until it is flushed, with all that it maps")
        };
        let start = position.times(self.table_size);
        let at = start.plus(index.times(entry.len()));
        // An index is below the entries of a table, a table below the capacity.
        #[expect(
            clippy::indexing_slicing,
            reason = "a panic is better than a cluster that is not mapped"
        )]
        self.bytes[at..at.plus(entry.len())].copy_from_slice(&entry);
    }

    /// The L1 entries of all tables, in the order of [`bytes`](Self::bytes).
    pub(super) fn tables(&self) -> &[usize] {
        &self.tables
    }

    /// All tables, one after the other.
    pub(super) fn bytes(&self) -> &[u8] {
        let (used, _) = self.bytes.split_at(self.used());
        used
    }

    /// Forgets all tables.
    pub(super) fn clear(&mut self) {
        let used = self.used();
        let (used, _) = self.bytes.split_at_mut(used);
        used.fill(0);
        self.tables.clear();
    }

    fn used(&self) -> usize {
        self.tables.len().times(self.table_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::to_u64;

    #[test]
    fn there_are_512_tables_unless_fewer_serve_or_they_pass_64_mib() {
        for (table_size, needed, l1_size, tables) in [
            (65536, 9999, 8, 512),
            (65536, 3, 8, 3),
            (65536, 0, 8, 1),
            (2 << 20, 9999, 8, 32),
            (2 << 20, 9999, 32 << 20, 20),
            (65536, 9999, 32 << 20, 512),
            (512, 9999, 32 << 20, 512),
        ] {
            let cache = L2Cache::new(table_size, needed, l1_size);
            assert_eq!(to_u64(cache.capacity), tables);
            assert_eq!(to_u64(cache.bytes.len()), tables * table_size);
        }
    }

    #[test]
    fn a_cleared_cache_holds_no_entry_of_before() {
        let mut cache = L2Cache::new(512, 2, 8);
        cache.begin(7);
        cache.begin(9);
        cache.set(9, 0, [2; 8]);
        cache.set(7, 63, [1; 8]);
        assert!(cache.is_full());
        assert_eq!(cache.tables(), [7, 9]);
        assert_eq!(cache.bytes()[504..520], [[1; 8], [2; 8]].concat());
        cache.clear();
        cache.begin(11);
        assert_eq!(cache.bytes(), [0; 512]);
    }
}
