//! The chunk tree: all chunks, and the device that they are on.

use zerocopy::FromBytes;

use super::chunks::{CHUNKS, Chunk, Chunks};
use super::item::{CHUNK_ITEM, DEV_ITEM};
use super::raw_superblock::RawDevItem;
use super::superblock::Superblock;
use super::tree::{Cursor, Trees};
use crate::units::to_u64;
use crate::volumes::doubt::Doubt;
use crate::volumes::view::View;

const STRUCTURE: &str = "chunk item";

/// How many chunks are looked into: 24 MiB of them. Kernels make them larger on larger devices.
const MAX_CHUNKS: usize = 1 << 19;

/// What keys of devices have for an object.
const DEVICES: u64 = 1;

/// All chunks. Those that hold the tree itself stand in the superblock.
pub(super) fn read(view: View<'_>, superblock: &Superblock) -> Result<Chunks, Doubt> {
    let system = Chunks::system(view, superblock)?;
    let trees = Trees {
        view,
        superblock,
        chunks: &system,
    };
    let (mut chunks, mut device) = (Vec::new(), None);
    let mut cursor = Cursor::new(trees, superblock.chunk_root)?;
    while let Some(key) = cursor.key() {
        let item = cursor.item();
        match (key.kind, key.objectid) {
            (CHUNK_ITEM, CHUNKS) if chunks.len() < MAX_CHUNKS => {
                let chunk = Chunk::parse(key, item, superblock);
                chunks.push(
                    chunk.map_err(|(field, found, expected)| {
                        cursor.field(STRUCTURE, field, found, expected)
                    })?,
                );
            }
            (CHUNK_ITEM, CHUNKS) => {
                let (what, limit) = ("chunks", to_u64(MAX_CHUNKS));
                return Err(Doubt::TooMany { what, limit });
            }
            (DEV_ITEM, DEVICES) if device.is_none() => {
                device = RawDevItem::read_from_bytes(item).ok();
            }
            _ => return Err(Doubt::State("its chunk tree has an item that is not known")),
        }
        cursor.advance()?;
    }
    let is_that = |device: RawDevItem| {
        let own = &superblock.device;
        (device.devid, device.total_bytes, device.uuid) == (own.devid, own.total_bytes, own.uuid)
    };
    if !device.is_some_and(is_that) {
        return Err(Doubt::State(
            "its superblock and its chunk tree describe different devices",
        ));
    }
    let chunks = Chunks::new(chunks)?;
    if !system.are_in(&chunks) {
        return Err(Doubt::State(
            "its superblock has a chunk that its chunk tree does not have",
        ));
    }
    Ok(chunks)
}
