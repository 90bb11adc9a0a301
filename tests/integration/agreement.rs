//! On every image of the corpus, this program and qemu-img are of one opinion.

use mkqcow2::format::mapping::Mapping;
use mkqcow2::image::{Access, Disk};
use mkqcow2::units::GuestOffset;

use crate::corpus::{Corpus, Range, Specimen, first_difference};

/// Not a divisor or multiple of any cluster size.
const PIECE: usize = 300_007;

fn open(specimen: &Specimen, snapshot: Option<&str>) -> Result<Disk, String> {
    let access = Access {
        follow: specimen.follow,
        snapshot: snapshot.map(str::to_owned),
        ..Access::default()
    };
    Disk::open(&specimen.path, &access).map_err(|error| error.to_string())
}

fn read(disk: &Disk) -> Result<Vec<u8>, String> {
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
        let ours = merged(runs(&open(specimen, None)?)?);
        let theirs = merged(specimen.qemu_map());
        match ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs) {
            Some((ours, theirs)) => Err(format!("{ours:?}\n    expected {theirs:?}")),
            None if ours.len() == theirs.len() => Ok(()),
            None => Err(format!("{} ranges, expected {}", ours.len(), theirs.len())),
        }
    });
}

fn runs(disk: &Disk) -> Result<Vec<Range>, String> {
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

/// Ranges that go on where the last one ended made one, so that it does not matter where a program cut them.
fn merged(ranges: Vec<Range>) -> Vec<Range> {
    let mut merged: Vec<Range> = Vec::new();
    for range in ranges.into_iter().map(comparable) {
        match merged.last_mut() {
            Some(last) if is_continued(last, &range) => last.length += range.length,
            _ if range.length > 0 => merged.push(range),
            _ => {}
        }
    }
    merged
}

/// Without what depends on the filesystem below: qemu tells where data are holes of the image. And without what
/// qemu tells of places that hold nothing: how deep it looked for it, and where there would be room for it.
fn comparable(range: Range) -> Range {
    Range {
        zero: range.zero && !range.data,
        depth: if range.present { range.depth } else { 0 },
        offset: range.offset.filter(|_| range.data),
        ..range
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
