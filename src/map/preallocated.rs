//! Images that were preallocated: their clusters are mapped, but the file has holes there.

use crate::devices::Subject;
use crate::error::Result;
use crate::formats::qcow2::Image;
use crate::formats::qcow2::structures::geometry::ENTRY;
use crate::formats::qcow2::structures::refcount;
use crate::units::{Exact, to_usize};

/// Whether so many clusters are referenced that they cannot all be on the disk, by the rule of QEMU: one in ten
/// is not, two at least. What cannot be read tells nothing.
pub(super) fn is_preallocated(image: &Image) -> bool {
    let file = image.file();
    let (Subject::File(_), Ok(on_disk)) = (file.subject(), file.bytes_on_disk()) else {
        return false;
    };
    let cluster_size = image.header().geometry().cluster_size();
    let there = on_disk.checked_div(cluster_size).unwrap_or(0);
    // A cluster has 512 bytes at least: there are no more than 2^55.
    let tenth_more = (there.times(10) / 9).max(there.plus(2));
    let clusters = file.length().div_ceil(cluster_size);
    clusters >= tenth_more
        && referenced(image, clusters, tenth_more).is_ok_and(|referenced| referenced >= tenth_more)
}

/// How many of the first `clusters` clusters of the file are referenced; counts no further than to `enough`.
fn referenced(image: &Image, clusters: u64, enough: u64) -> Result<u64> {
    let header = image.header();
    let (geometry, width) = (header.geometry(), header.refcounts());
    let Some(table) = image.refcount_table() else {
        return Ok(0);
    };
    // At most 2 MiB.
    let mut block = vec![0; to_usize(geometry.cluster_size())];
    let per_block = width.block_entries(geometry);
    let (mut referenced, mut first) = (0_u64, 0_u64);
    for index in 0..table.entries {
        if first >= clusters || referenced >= enough {
            break;
        }
        let mut entry = [0; 8];
        // The table lies in the file.
        let entry_at = table.at + index.times(ENTRY);
        image.file().read_exact(&mut entry, entry_at)?;
        if let Ok(Some(at)) = refcount::block_at(u64::from_be_bytes(entry), geometry) {
            image.file().read_exact(&mut block, at)?;
            let counts = per_block.min(clusters.minus(first));
            for count in 0..to_usize(counts) {
                referenced.increase(u64::from(width.get(&block, count) != 0));
            }
        }
        first.increase(per_block);
    }
    Ok(referenced)
}
