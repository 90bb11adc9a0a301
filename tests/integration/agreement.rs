//! On every image of the corpus, this program and qemu-img are of one opinion.

mod verbs;

use mkqcow2::disk::Disk;
use mkqcow2::formats::qcow2::structures::mapping::Mapping;
use mkqcow2::formats::{Access, AnyDisk, Chain, Opening, open as open_disk};
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
    match open_disk(&specimen.path, &Opening::image(access)) {
        Ok(AnyDisk::Image(chain)) => Ok(*chain),
        Ok(AnyDisk::Raw(_)) => Err("no image".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn read(disk: &Chain) -> Result<Vec<u8>, String> {
    // Whatever is not read stands out.
    let mut bytes = vec![0xa5; usize::try_from(disk.len()).unwrap()];
    for (number, piece) in bytes.chunks_mut(PIECE).enumerate() {
        let at = (number * PIECE) as u64;
        disk.read_at(piece, at)
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

/// A walk keeps its tables in hand from one run to the next: in whatever order it is asked, it must not mix them up.
#[test]
fn runs_are_the_same_in_whatever_order_they_are_asked_for() {
    Corpus::shared().each(|specimen| {
        let runs = runs(&open(specimen, None)?)?;
        let disk = open(specimen, None)?;
        // From both ends, so that the walk goes to and fro between different tables.
        let to_and_fro = runs.iter().zip(runs.iter().rev());
        for expected in to_and_fro.flat_map(|(first, last)| [first, last]) {
            let found = run(&disk, expected.start, expected.length)?;
            // What is known not to be there is told in shorter ranges, perhaps, and by another file.
            let found = if expected.present {
                found
            } else {
                Range {
                    length: expected.length,
                    depth: expected.depth,
                    ..found
                }
            };
            if found != *expected {
                return Err(format!("{found:?}\n    expected {expected:?}"));
            }
        }
        Ok(())
    });
}

fn runs(disk: &Chain) -> Result<Vec<Range>, String> {
    let mut runs = Vec::new();
    let mut start = 0;
    while start < disk.len() {
        let run = run(disk, start, u64::MAX)?;
        start += run.length;
        runs.push(run);
    }
    Ok(runs)
}

fn run(disk: &Chain, start: u64, limit: u64) -> Result<Range, String> {
    let run = disk
        .place_at(GuestOffset(start), limit)
        .map_err(|error| error.to_string())?;
    let (offset, compressed) = match run.mapping {
        Mapping::Data(at) | Mapping::ZeroAllocated(at) => (Some(at.0), false),
        Mapping::Compressed(_) => (None, true),
        Mapping::Unallocated | Mapping::Zero => (None, false),
    };
    Ok(Range {
        start,
        length: run.length,
        depth: run.depth as u64,
        present: run.mapping != Mapping::Unallocated,
        zero: run.is_zero(),
        data: !run.is_zero(),
        compressed,
        offset,
    })
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
