//! XFS: what is free is what its trees list, as they are after recovery from its log.

mod crash;
mod damage;
mod layouts;
mod listed;
mod recovery;
mod written;

use std::ops::Range;
use std::path::Path;

use mkqcow2::disk::{self, Open};
use mkqcow2::volumes::{self, Allocation, Scan, State};

use listed::free_by_xfs_db;

fn scan(disk: &Path) -> Allocation {
    let source = disk::open(disk, Open::default()).unwrap();
    volumes::scan(&source, Scan::Auto).unwrap()
}

fn free(allocation: &Allocation) -> Vec<Range<u64>> {
    let parts = allocation.map.parts();
    let free = parts.filter(|(_, state, _)| *state == State::Free);
    free.map(|(range, ..)| range).collect()
}
