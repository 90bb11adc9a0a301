//! The directories of a FAT or exFAT volume, all of them: what they speak of is in use whatever the volume's map says.
//!
//! Neither has a journal. A snapshot of a running machine may hold an entry of a file whose clusters are still free in
//! the map: the one was written before the other. A kernel that mounts it shows the file all the same. That a volume
//! was unmounted by what its flag says is no proof of anything: mtools never set it, and firmware does not either.

use super::doubt::Doubt;
use super::heap::{ClusterSet, Heap};
use super::view::View;

/// How many directories are looked into.
const MAX_DIRECTORIES: u64 = 1 << 20;

/// How much of them is read, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// A directory that lies in clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Directory {
    /// Its first cluster.
    pub(super) first: u64,
    /// How many follow that, if they do so without a gap and no FAT tells of it.
    pub(super) more: Option<u64>,
}

/// What is different between FAT and exFAT.
pub(super) trait Format {
    /// The cluster behind another one in its chain.
    fn next(&self, cluster: u64) -> Result<Option<u64>, Doubt>;

    /// Takes in entries, and tells of the directories among them. `at` is where they begin.
    fn entries(&mut self, bytes: &[u8], at: u64, found: &mut Vec<Directory>) -> Result<(), Doubt>;
}

/// Takes in what directories hold that are reached from some, each cluster at most once.
pub(super) fn walk(
    view: View<'_>,
    heap: Heap,
    format: &mut impl Format,
    mut found: Vec<Directory>,
) -> Result<(), Doubt> {
    let mut ahead = Ahead {
        seen: ClusterSet::new(heap)?,
        open: Vec::new(),
        directories: 0,
        bytes: 0,
    };
    ahead.add(&mut found)?;
    while let Some(Directory { first, mut more }) = ahead.open.pop() {
        let mut cluster = first;
        loop {
            ahead.bytes = ahead.bytes.saturating_add(heap.cluster_size);
            limit("bytes of directories", ahead.bytes, MAX_BYTES)?;
            heap.read(view, "directory", cluster, |bytes, at| {
                format.entries(bytes, at, &mut found)
            })?;
            ahead.add(&mut found)?;
            let next = match &mut more {
                Some(0) => None,
                Some(more) => {
                    *more = more.saturating_sub(1);
                    Some(cluster.saturating_add(1))
                }
                None => format.next(cluster)?,
            };
            // A loop, or the way into another directory.
            let Some(next) = next.filter(|next| ahead.seen.insert(*next)) else {
                break;
            };
            cluster = next;
        }
    }
    Ok(())
}

/// What is still to be read, and how much was.
#[derive(Debug)]
struct Ahead {
    /// Clusters that were read, or are the first of what is to be.
    seen: ClusterSet,
    open: Vec<Directory>,
    directories: u64,
    bytes: u64,
}

impl Ahead {
    fn add(&mut self, found: &mut Vec<Directory>) -> Result<(), Doubt> {
        for directory in found.drain(..) {
            if self.seen.insert(directory.first) {
                self.open.push(directory);
                self.directories = self.directories.saturating_add(1);
            }
        }
        limit("directories", self.directories, MAX_DIRECTORIES)
    }
}

fn limit(what: &'static str, count: u64, limit: u64) -> Result<(), Doubt> {
    if count > limit {
        return Err(Doubt::TooMany { what, limit });
    }
    Ok(())
}
