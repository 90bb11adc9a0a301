//! On every image of the corpus, this program and qemu-img are of one opinion.

mod verbs;

use mkqcow2::formats::qcow2::structures::mapping::Mapping;
use mkqcow2::formats::{Access, Chain};
use mkqcow2::units::GuestOffset;

use crate::corpus::{Corpus, Range, Specimen, first_difference};

/// Not a divisor or multiple of any cluster size.
const PIECE: usize = 300_007;

fn open(specimen: &Specimen, snapshot: Option<&str>) -> Result<Chain, String> {
    let access = Access {
        follow: specimen.follow,
        snapshot: snapshot.map(str::to_owned),
        ..Access::default()
    };
    Chain::open(&specimen.path, &access).map_err(|error| error.to_string())
}

fn read(disk: &Chain) -> Result<Vec<u8>, String> {
    // Whatever is not read stands out.
    let mut bytes = vec![0xa5; usize::try_from(disk.size()).unwrap()];
    for (number, piece) in bytes.chunks_mut(PIECE).enumerate() {
        let at = GuestOffset((number * PIECE) as u64);
        disk.read_at(at, piece)
            .map_err(|error| format!("at {at:x?}: {error}"))?;
    }
    Ok(bytes)
}

#[test]
fn every_specimen_reads_as_qemu_reads_it() {
    Corpus::shared().each(|specimen| {
        let ours = read(&open(specimen, None)?)?;
        first_difference(&ours, &specimen.raw()).map_or(Ok(()), Err)
    });
}

#[test]
fn every_snapshot_reads_as_qemu_reads_it() {
    Corpus::shared().each(|specimen| {
        for name in &specimen.snapshots {
            let ours = read(&open(specimen, Some(name))?)?;
            if let Some(difference) = first_difference(&ours, &specimen.raw_snapshot(name)) {
                return Err(format!("{name}: {difference}"));
            }
        }
        Ok(())
    });
}

#[test]
fn every_specimen_is_mapped_as_qemu_maps_it() {
    Corpus::shared().each(|specimen| {
        let ours = runs(&open(specimen, None)?)?.into_iter().map(comparable);
        same(ours, specimen.qemu_map().into_iter().map(comparable))
    });
}

/// Whether two maps are one, wherever they cut their ranges.
fn same(ours: impl Iterator<Item = Range>, theirs: impl Iterator<Item = Range>) -> Result<(), String> {
    let (ours, theirs) = (merged(ours), merged(theirs));
    match ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs) {
        Some((ours, theirs)) => Err(format!("{ours:?}\n    expected {theirs:?}")),
        None if ours.len() == theirs.len() => Ok(()),
        None => Err(format!("{} ranges, expected {}", ours.len(), theirs.len())),
    }
}

fn runs(disk: &Chain) -> Result<Vec<Range>, String> {
    let mut runs = Vec::new();
    let mut start = 0;
    while start < disk.size() {
        let run = disk
            .run_at(GuestOffset(start), u64::MAX)
            .map_err(|error| error.to_string())?;
        let (offset, compressed) = match run.mapping {
            Mapping::Data(at) | Mapping::ZeroAllocated(at) => (Some(at.0), false),
            Mapping::Compressed(_) => (None, true),
            Mapping::Unallocated | Mapping::Zero => (None, false),
        };
        runs.push(Range {
            start,
            length: run.length,
            depth: run.depth as u64,
            present: run.mapping != Mapping::Unallocated,
            zero: run.is_zero(),
            data: !run.is_zero(),
            compressed,
            offset,
        });
        start += run.length;
    }
    Ok(runs)
}

/// Ranges that go on where the last one ended made one.
fn merged(ranges: impl Iterator<Item = Range>) -> Vec<Range> {
    let mut merged: Vec<Range> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if is_continued(last, &range) => last.length += range.length,
            _ if range.length > 0 => merged.push(range),
            _ => {}
        }
    }
    merged
}

/// Without the holes of the image itself: qemu looks for them if it thinks that the image was preallocated, which
/// depends on what the filesystem has written so far.
fn without_holes(range: Range) -> Range {
    Range {
        zero: range.zero && !range.data,
        ..range
    }
}

/// Also without what only the command tells as qemu does: of places that hold nothing, how deep it looked for it,
/// and where there would be room.
fn comparable(range: Range) -> Range {
    Range {
        depth: if range.present { range.depth } else { 0 },
        offset: range.offset.filter(|_| range.data),
        ..without_holes(range)
    }
}

fn is_continued(last: &Range, next: &Range) -> bool {
    let flags = |range: &Range| {
        let Range {
            depth,
            present,
            zero,
            data,
            compressed,
            ..
        } = *range;
        (depth, present, zero, data, compressed)
    };
    flags(last) == flags(next) && next.offset == last.offset.map(|offset| offset + last.length)
}
