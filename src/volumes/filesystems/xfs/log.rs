//! The log: whether there is anything in it that mounting would do first. Sources: `fs/xfs/libxfs/xfs_log_format.h`,
//! `fs/xfs/xfs_log_recover.c`.
//!
//! Each block of 512 bytes of the log begins with the number of the round in which it was written, its cycle. All of it
//! is looked at: the head is where the cycle falls by one, or to 0 in a log that was never full. After an unmount, the
//! last record in front of the head says so. Whatever does not look like that may need recovery.

use super::superblock::Superblock;
use crate::units::{Exact, length, to_u64, to_usize};
use crate::volumes::crc32c::crc32c;
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::{u32_be, u32_le};
use crate::volumes::view::View;

/// What the log counts in, in bytes.
const BLOCK: u64 = 512;

/// How much of the log is read at once, in bytes.
const CHUNK: u64 = 1 << 20;

/// How far in front of the head the last record may begin, in blocks: the longest has 256 KiB, and headers.
const MAX_RECORD: u64 = 520;

/// What a record begins with, in the place of the cycle, which follows it.
const MAGIC: u32 = 0xfeed_babe;

// Where fields of `struct xlog_rec_header` are, in bytes.
const CYCLE: usize = 4;
const VERSION: usize = 8;
const LEN: usize = 12;
const CRC: usize = 32;
const NUM_LOGOPS: usize = 40;
const CYCLE_DATA: usize = 44;
const FMT: usize = 300;
const UUID: usize = 304;
const SIZE: usize = 320;
/// Its length on 64-bit machines, and on i386.
const HEADERS: [usize; 2] = [328, 324];

/// The length of `struct xlog_rec_ext_header`, of the data that one keeps words of, and how many there may be.
const EXTENDED: usize = 260;
const PER_HEADER: u64 = 32 << 10;
const MAX_HEADERS: u64 = 8;

/// Items in the byte order of little-endian machines.
const LINUX_LE: u32 = 1;

// Where fields of `struct xlog_op_header` are, in bytes, and what they hold in a record of an unmount.
const CLIENT: usize = 8;
const FLAGS: usize = 9;
const LOG: u8 = 0xaa;
const UNMOUNT: u8 = 0x20;

/// Why the map on the disk may not be that after mounting.
const DIRTY: Doubt =
    Doubt::State("its log is not empty: it was not unmounted (mount and unmount it for a smaller image)");

/// Makes sure that nothing in the log changes what is free.
pub(super) fn check_clean(view: View<'_>, superblock: &Superblock) -> Result<(), Doubt> {
    let (start, length) = superblock.log;
    let log = view.part("log", &(start..start.plus(length)))?;
    let (head, cycle) = head(log)?;
    let (at, record) = last_record(log, head)?;
    let is_of_round = u32_be(&record, CYCLE) == cycle;
    let len = u64::from(u32_be(&record, LEN));
    let data_at = at.plus(header_blocks(&record));
    let end = data_at.plus(len.div_ceil(BLOCK));
    let is_last = end == if head == 0 { log.len() / BLOCK } else { head };
    let is_readable = matches!(u32_be(&record, VERSION), 1 | 2)
        && u32_be(&record, FMT) == LINUX_LE
        && record
            .get(UUID..)
            .is_some_and(|rest| rest.starts_with(&superblock.uuid));
    if !(is_of_round && is_last && is_readable && u32_be(&record, NUM_LOGOPS) == 1) {
        return Err(DIRTY);
    }
    let more = log.bytes(
        "log record",
        at.plus(1).times(BLOCK),
        data_at.minus(at).minus(1).times(BLOCK),
    )?;
    let data = log.bytes("log record", data_at.times(BLOCK), len)?;
    if !has_sum(&record, &more, &data) {
        return Err(Doubt::State("the last record of its log is damaged"));
    }
    let (client, flags) = (data.get(CLIENT), data.get(FLAGS));
    let is_unmount = client == Some(&LOG) && flags.is_some_and(|flags| flags & UNMOUNT != 0);
    // The cycle stands in the place of what the record keeps in its header.
    let is_its_own = u32_be(&data, 0) == cycle && record.get(CYCLE_DATA..).is_some();
    if is_unmount && is_its_own {
        Ok(())
    } else {
        Err(DIRTY)
    }
}

/// Where the next block would be written, counted in blocks, and the cycle of the one in front of it.
fn head(log: View<'_>) -> Result<(u64, u32), Doubt> {
    let (mut head, mut first, mut before) = (0, None, None);
    let mut at = 0;
    while at < log.len() {
        let chunk = at..at.plus(CHUNK).min(log.len());
        let bytes = if log.is_hole(&chunk) {
            vec![0; to_usize(length(&chunk))]
        } else {
            log.bytes("log", chunk.start, length(&chunk))?
        };
        for (number, block) in (chunk.start / BLOCK..).zip(bytes.chunks_exact(to_usize(BLOCK))) {
            let word = u32_be(block, 0);
            let cycle = if word == MAGIC { u32_be(block, CYCLE) } else { word };
            let round = *first.get_or_insert(cycle);
            let is_older = cycle == 0 || Some(cycle) == round.checked_sub(1);
            match before {
                Some(last) if last == cycle => {}
                None => {}
                Some(last) if last == round && head == 0 && is_older => head = number,
                Some(_) => return Err(DIRTY),
            }
            before = Some(cycle);
        }
        at = chunk.end;
    }
    match first {
        Some(cycle) if cycle != 0 => Ok((head, cycle)),
        _ => Err(DIRTY),
    }
}

/// Where the last record in front of the head begins, counted in blocks, and its header. It does not go on from the end
/// of the log at its beginning.
fn last_record(log: View<'_>, head: u64) -> Result<(u64, Vec<u8>), Doubt> {
    let end = if head == 0 { log.len() / BLOCK } else { head };
    let first = end.saturating_sub(MAX_RECORD);
    let bytes = log.bytes("log", first.times(BLOCK), end.minus(first).times(BLOCK))?;
    let blocks = (first..end).zip(bytes.chunks_exact(to_usize(BLOCK)));
    let headers = blocks.filter(|(_, block)| u32_be(block, 0) == MAGIC);
    let last = headers.last();
    last.map(|(number, block)| (number, block.to_vec())).ok_or(DIRTY)
}

/// How many blocks the headers of a record have: each keeps words of 32 KiB, in a log of version 2.
fn header_blocks(header: &[u8]) -> u64 {
    match u32_be(header, VERSION) {
        2 => u64::from(u32_be(header, SIZE))
            .div_ceil(PER_HEADER)
            .clamp(1, MAX_HEADERS),
        _ => 1,
    }
}

/// Whether a record has its checksum. mkfs.xfs writes none.
fn has_sum(header: &[u8], more: &[u8], data: &[u8]) -> bool {
    let found = u32_le(header, CRC);
    let others = to_u64(data.len()).div_ceil(PER_HEADER).saturating_sub(1);
    let others = more.chunks(to_usize(BLOCK)).take(to_usize(others));
    let others: Vec<_> = others
        .flat_map(|block| block.iter().take(EXTENDED))
        .copied()
        .collect();
    let sums = HEADERS.map(|length| {
        let header = header.get(..length).unwrap_or_default();
        let (before, rest) = header.split_at_checked(CRC).unwrap_or_default();
        let after = rest.get(4..).unwrap_or_default();
        let pieces = [before, &[0; 4], after, &*others, data];
        !pieces.iter().fold(u32::MAX, |sum, piece| crc32c(sum, piece))
    });
    found == 0 || sums.contains(&found)
}

const _: () = assert!(to_u64(HEADERS[0]) <= BLOCK);
