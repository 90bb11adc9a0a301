//! A target that is smaller than what is restored: it will do if nothing in use is left out.

use std::ops::Range;

use super::report::Warning;
use crate::disk::{Content, Disk};
use crate::error::{Invalid, Result};
use crate::formats::Chain;
use crate::units::{Exact, length, to_usize};
use crate::volumes::{self, Allocation, Extent, Fitted, Reason, Region, Scan, Selection, State};
use crate::zero::is_zero;

/// How much is read in one go, in bytes.
const PIECE: u64 = 1 << 20;

/// What is left out on a smaller target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// How many bytes.
    bytes: u64,
    /// What is cut off by that, if anything is.
    cut: Option<String>,
}

impl LeftOut {
    /// What there is to say about it.
    pub(super) fn warning(&self) -> Warning {
        let bytes = self.bytes;
        match self.cut.clone() {
            Some(what) => Warning::CutOff { what, bytes },
            None => Warning::Smaller { bytes },
        }
    }
}

/// What lies past the end of a target.
#[derive(Debug, Default)]
struct Tail {
    /// How many bytes of it are in use, and where the last of these ends, in bytes of what is restored.
    used: u64,
    last: u64,
    /// How many bytes are free for what lies there.
    free: u64,
}

impl Tail {
    fn add(&mut self, bytes: u64, end: u64) {
        if bytes > 0 {
            self.used.increase(bytes);
            self.last = self.last.max(end);
        }
    }
}

/// Makes sure that nothing in use lies behind the first `size` bytes of what is wanted, and, unless forced, that
/// nothing which goes by its own size reaches that far. The sizes are those of the target and of its sectors.
///
/// # Errors
///
/// - [`Invalid::TargetTooSmall`] if anything does, or the image does not record what is free.
/// - [`Invalid::TargetCuts`] if a volume or a filesystem would be cut off.
pub(super) fn check(
    disk: &Chain,
    wanted: &Selection,
    (size, sector_size): (u64, u64),
    force: bool,
) -> Result<LeftOut> {
    let expected = wanted.segments.size();
    let too_small = |used: Option<_>| {
        let fitted = volumes::fitted(disk, size, sector_size);
        let fits = |fitted: Fitted| check_fitted(disk, &fitted, size).is_ok();
        Invalid::TargetTooSmall {
            found: size,
            expected,
            used,
            can_fit: used.is_some() && expected == disk.len() && fitted.is_ok_and(fits),
        }
    };
    if !matches!(disk.record(), Ok(Ok(_))) {
        return Err(too_small(None).into());
    }
    let allocation = volumes::scan(disk, Scan::Auto)?;
    let (mut tail, mut at) = (Tail::default(), size);
    let ranges: Vec<_> = wanted.segments.resolve(&(size..expected)).collect();
    for range in &ranges {
        add(&mut tail, &allocation, range, at);
        at.increase(length(range));
    }
    if tail.used > 0 {
        return Err(too_small(Some((tail.used, tail.last))).into());
    }
    let bytes = expected.minus(size);
    match cut(&allocation, wanted, &ranges, tail.free) {
        Some((what, end)) if !force => {
            let found = size;
            Err(Invalid::TargetCuts { found, what, end }.into())
        }
        cut => Ok(LeftOut {
            bytes,
            cut: cut.map(|(what, _)| what),
        }),
    }
}

/// Adds a range of the disk, which begins at `at` of what is restored.
fn add(tail: &mut Tail, allocation: &Allocation, range: &Range<u64>, at: u64) {
    let extents = allocation.map.extents();
    let first = extents.partition_point(|extent| extent.range.end <= range.start);
    let here = extents.get(first..).unwrap_or_default().iter();
    let mut known = 0_u64;
    for extent in here.take_while(|extent| extent.range.start < range.end) {
        let part = extent.range.start.max(range.start)..extent.range.end.min(range.end);
        known.increase(length(&part));
        if !is_nothing(extent) {
            tail.add(length(&part), at.plus(part.end.minus(range.start)));
        }
    }
    tail.free.increase(length(range).minus(known));
}

/// Whether it is zeros that belong to no volume, or lie behind a filesystem: on a smaller disk they are not there.
fn is_nothing(extent: &Extent) -> bool {
    extent.state() == State::Zeros && matches!(extent.reason, Reason::Unpartitioned | Reason::Behind)
}

/// What goes by its own size and would be cut off, if anything would, and where it ends.
fn cut(allocation: &Allocation, wanted: &Selection, tail: &[Range<u64>], free: u64) -> Option<(String, u64)> {
    let (regions, size) = (&allocation.regions, wanted.segments.size());
    if let Some(volume) = &wanted.volume {
        return (free > 0).then(|| (volume.to_string(), size));
    }
    let reaches = |region: &&Region| {
        let mut own = region.segments.ranges();
        let overlaps = |own: &Range<u64>| {
            tail.iter()
                .any(|tail| own.start < tail.end && tail.start < own.end)
        };
        region.part.is_some() && own.any(overlaps)
    };
    let part = regions.iter().find(reaches);
    let of_part = part.and_then(|region| {
        let (name, part) = (volumes::name_of(regions, region)?, region.part.as_ref()?);
        let end = region.segments.ranges().map(|range| range.end).max()?;
        let what = match part.number() {
            Some(_) => format!("partition {name}"),
            None => name,
        };
        Some((what, end))
    });
    of_part.or_else(|| {
        let name = regions.first().and_then(|region| region.name);
        (free > 0).then(|| (format!("the {}", name.unwrap_or("filesystem")), size))
    })
}

/// Makes sure that no byte but zeros, and the old backup of the GPT, lies where partitions of a fitted GPT cannot be.
///
/// # Errors
///
/// [`Invalid::TargetTooSmall`] if one does.
pub(super) fn check_fitted(disk: &Chain, fitted: &Fitted, size: u64) -> Result<Option<LeftOut>> {
    let (mut tail, mut at) = (Tail::default(), fitted.usable_end);
    while at < disk.len() {
        let run = disk.run_at(at, PIECE.min(disk.len().minus(at)))?;
        let end = at.plus(run.length.max(1)).min(disk.len());
        if run.content == Content::Data {
            let mut bytes = vec![0; to_usize(end.minus(at))];
            disk.read_at(&mut bytes, at)?;
            for own in &fitted.old_backup {
                let within = |place: u64| to_usize(place.clamp(at, end).minus(at));
                if let Some(own) = bytes.get_mut(within(own.start)..within(own.end)) {
                    own.fill(0);
                }
            }
            if !is_zero(&bytes) {
                tail.add(end.minus(at), end);
            }
        }
        at = end;
    }
    if tail.used > 0 {
        return Err(Invalid::TargetTooSmall {
            found: size,
            expected: disk.len(),
            used: Some((tail.used, tail.last)),
            can_fit: false,
        }
        .into());
    }
    let bytes = disk.len().saturating_sub(size);
    Ok((bytes > 0).then_some(LeftOut { bytes, cut: None }))
}
