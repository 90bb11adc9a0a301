//! The directories of a FAT or exFAT volume, all of them: what they speak of is in use whatever the volume's map says.
//!
//! Neither has a journal. A snapshot of a running machine may hold an entry of a file whose clusters are still free in
//! the map: the one was written before the other. A kernel that mounts it shows the file all the same. That a volume
//! was unmounted by what its flag says is no proof of anything: mtools never set it, and firmware does not either.

use super::heap::{ClusterSet, Heap, pieces};
use crate::units::{Exact, length, to_u64};
use crate::volumes::doubt::Doubt;
use crate::volumes::view::View;
use crate::zero::is_zero;

/// How many directories are looked into.
const MAX_DIRECTORIES: u64 = 1 << 20;

/// How much of them is read, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// What one byte that is not 0 counts in zeros: clusters may be large, and have a few entries each.
const ZEROS: u64 = 16;

/// How much is read in one go, in bytes.
const PIECE: u64 = 16 << 10;

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
    /// Whether directories may lead to what was reached before: in FAT each has an entry of its parent. A chain that
    /// does so goes on as it did then; a directory without a chain would not.
    const LEADS_BACK: bool;

    /// The cluster behind another one in its chain.
    fn next(&self, cluster: u64) -> Result<Option<u64>, Doubt>;

    /// Takes in entries, and tells of the directories among them. `at` is where they begin.
    fn entries(&mut self, bytes: &[u8], at: u64, found: &mut Vec<Directory>) -> Result<(), Doubt>;
}

/// Takes in what directories hold that are reached from some, each cluster at most once. Returns their clusters.
pub(super) fn walk<F: Format>(
    view: View<'_>,
    heap: Heap,
    format: &mut F,
    mut found: Vec<Directory>,
) -> Result<ClusterSet, Doubt> {
    let mut ahead = Ahead {
        seen: ClusterSet::new(heap)?,
        open: Vec::new(),
        directories: 0,
        bytes: 0,
        leads_back: F::LEADS_BACK,
    };
    ahead.add(&mut found)?;
    while let Some(Directory { first, mut more }) = ahead.open.pop() {
        let mut cluster = first;
        loop {
            // To its end: not all that read FAT or exFAT stop at the entry that should be the last one.
            for piece in pieces(heap.cluster_size, PIECE) {
                let at = heap.offset(cluster).plus(piece.start);
                let bytes = view.bytes("directory", at, length(&piece))?;
                if ahead.count(&bytes)? {
                    format.entries(&bytes, at, &mut found)?;
                }
            }
            ahead.add(&mut found)?;
            let next = match &mut more {
                Some(0) => None,
                Some(more) => {
                    *more = more.minus(1);
                    Some(cluster.plus(1))
                }
                None => format.next(cluster)?,
            };
            match next {
                Some(next) if ahead.is_new(next)? => cluster = next,
                _ => break,
            }
        }
    }
    Ok(ahead.seen)
}

/// What is still to be read, and how much was.
#[derive(Debug)]
struct Ahead {
    /// Clusters that were read, or are the first of what is to be.
    seen: ClusterSet,
    open: Vec<Directory>,
    directories: u64,
    bytes: u64,
    leads_back: bool,
}

impl Ahead {
    /// Takes note of bytes that were read. Returns whether they are more than zeros.
    fn count(&mut self, bytes: &[u8]) -> Result<bool, Doubt> {
        let (is_zero, length) = (is_zero(bytes), to_u64(bytes.len()));
        let counted = if is_zero { length / ZEROS } else { length };
        self.bytes.increase(counted);
        limit("bytes of directories", self.bytes, MAX_BYTES)?;
        Ok(!is_zero)
    }

    /// Takes note of a cluster. Returns whether it was not seen yet.
    fn is_new(&mut self, cluster: u64) -> Result<bool, Doubt> {
        let is_new = self.seen.insert(cluster);
        if !is_new && !self.leads_back {
            return Err(Doubt::State("a cluster is in two directories, or twice in one"));
        }
        Ok(is_new)
    }

    fn add(&mut self, found: &mut Vec<Directory>) -> Result<(), Doubt> {
        for directory in found.drain(..) {
            if self.is_new(directory.first)? {
                self.open.push(directory);
                self.directories.increase(1);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_count_less_and_are_bounded_all_the_same() {
        let heap = Heap {
            start: 0,
            cluster_size: 512,
            count: 8,
        };
        let with_left = |left| Ahead {
            seen: ClusterSet::new(heap).unwrap(),
            open: Vec::new(),
            directories: 0,
            bytes: MAX_BYTES - left,
            leads_back: false,
        };
        let mut ahead = with_left(64);
        assert!(!ahead.count(&[0; 512]).unwrap());
        assert!(!ahead.count(&[0; 512]).unwrap());
        assert!(ahead.count(&[0; 512]).is_err());

        let mut ahead = with_left(600);
        assert!(ahead.count(&[1; 512]).unwrap());
        assert!(ahead.count(&[1; 512]).is_err());
    }
}
