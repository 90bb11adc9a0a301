//! Where the metadata of an image is, other than refcount blocks and L2 tables.

use super::findings::Log;
use super::structures::Structures;
use super::tables::L1;
use super::{bitmaps, encryption, snapshots};
use crate::error::Result;
use crate::formats::qcow2::Image;
use crate::units::HostOffset;

/// Finds all structures of an image, and tells of those that share clusters.
pub(super) fn find(image: &Image, log: &mut Log<'_>) -> Result<Structures> {
    let (header, mut all) = (image.header(), Structures::default());
    let (geometry, l1) = (header.geometry(), header.l1());
    all.add("header", 0, HostOffset(0), geometry.cluster_size());
    all.add_table("L1 table", 0, l1);
    all.l1s.push(L1 {
        table: l1,
        size: geometry.size(),
        weight: 1,
        is_active: true,
    });
    if let Some(table) = image.refcount_table() {
        all.add_table("refcount table", 0, table);
    }
    encryption::read(image, &mut all, log)?;
    snapshots::read(image, &mut all, log)?;
    bitmaps::read(image, &mut all, log)?;
    all.find_overlaps(geometry.cluster_size(), log);
    Ok(all)
}
