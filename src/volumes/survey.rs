//! From the whole source to its volumes and what they hold: the regions, and the map that they come to.

use std::collections::BTreeSet;
use std::ops::Range;

use super::builder::MapBuilder;
use super::doubt::Doubt;
use super::filesystems::swap;
use super::map::{AllocationMap, Reason};
use super::opaque;
use super::recognised::{Depth, Recognised};
use super::region::{Detail, Part, Region, Treatment};
use super::scheme::{Content, Group, Usage, Volume};
use super::view::View;
use crate::disk::Segments;
use crate::units::{Exact, length, to_u64};

/// How many volumes are looked into.
const MAX_VOLUMES: usize = 1024;

/// How deep volumes may lie in volumes.
const MAX_DEPTH: usize = 8;

/// What was found out about a source, whatever its holes.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) map: AllocationMap,
    pub(super) regions: Vec<Region>,
    /// Why no map of the source is trusted, however right it is, if there is a reason.
    pub(super) held: Option<&'static str>,
}

/// What looks into a volume, and into what it holds.
#[derive(Debug)]
struct Surveyor {
    depth: Depth,
    map: MapBuilder,
    regions: Vec<Region>,
    /// Why no map of this disk can be trusted, however right it is.
    held: Option<&'static str>,
    is_any_trusted: bool,
    /// A map was trusted before that was known.
    is_held_late: bool,
}

/// A volume where it lies.
#[derive(Clone, Copy, Debug)]
struct Placed<'a> {
    view: View<'a>,
    /// Its bytes as those of the source.
    segments: &'a Segments,
    /// The number of its region.
    region: usize,
    depth: usize,
}

impl Survey {
    /// Looks into all of a source.
    pub(super) fn of(view: View<'_>) -> Self {
        Self::held(view, None)
    }

    /// The same if it may be known why no map of it can be trusted.
    pub(super) fn held(view: View<'_>, held: Option<&'static str>) -> Self {
        let mut surveyor = Surveyor::of(view, Depth::Maps, held);
        if surveyor.is_held_late {
            surveyor = Surveyor::of(view, Depth::Maps, surveyor.held);
        }
        let (map, mut regions, held) = (surveyor.map.build(), surveyor.regions, surveyor.held);
        for region in &mut regions {
            let used = region.segments.ranges().map(|range| map.used_in(range));
            region.used = used.sum();
        }
        Self { map, regions, held }
    }

    /// What a source holds, by what is read with few reads: no map, so that nothing tells what is in use.
    pub(super) fn names(view: View<'_>) -> Vec<Region> {
        Surveyor::of(view, Depth::Names, None).regions
    }
}

impl Surveyor {
    /// Nothing is known of a source yet, but perhaps why no map of it can be trusted.
    fn new(view: View<'_>, depth: Depth, held: Option<&'static str>) -> Self {
        Self {
            depth,
            map: MapBuilder::new(view.len()),
            regions: Vec::new(),
            held,
            is_any_trusted: false,
            is_held_late: false,
        }
    }

    /// Looks into all of a source, of which it may be known why no map can be trusted.
    fn of(view: View<'_>, depth: Depth, held: Option<&'static str>) -> Self {
        let mut surveyor = Self::new(view, depth, held);
        let segments = Segments::one(0..view.len());
        surveyor.add(view, &segments, None, true, Recognised::of_disk(view, depth));
        surveyor
    }

    /// Adds a volume of a region: where it lies in the source, and what it was recognised as.
    fn add(
        &mut self,
        view: View<'_>,
        segments: &Segments,
        volume: Option<(usize, Part, Vec<Detail>)>,
        is_complete: bool,
        recognised: Recognised,
    ) {
        let region = self.regions.len();
        let parent = volume.as_ref().map(|(parent, ..)| *parent);
        let above = parent.and_then(|parent| self.regions.get(parent));
        let depth = above.map_or(0, |above| above.depth.plus(1));
        let (part, of_part) = volume.map(|(_, part, details)| (part, details)).unzip();
        let details = of_part.into_iter().flatten().chain(recognised.details);
        self.regions.push(Region {
            segments: segments.clone(),
            parent,
            depth,
            part,
            is_complete,
            name: recognised.name,
            label: recognised.label,
            details: details.collect(),
            used: 0,
            copied: 0,
            metadata: 0,
            treatment: Treatment::Unknown,
        });
        let placed = Placed {
            view,
            segments,
            region,
            depth,
        };
        let treatment = recognised
            .content
            .and_then(|content| self.content(placed, content))
            .unwrap_or_else(Treatment::Doubted);
        if matches!(
            treatment,
            Treatment::Unknown | Treatment::Whole(_) | Treatment::Doubted(_)
        ) {
            self.used(placed, 0..view.len(), Reason::Unknown);
        }
        if let Some(region) = self.regions.get_mut(region) {
            region.treatment = treatment;
        }
    }

    /// Adds what is in use of a volume, unless that is all of it.
    fn content(&mut self, placed: Placed<'_>, content: Usage) -> Result<Treatment, Doubt> {
        match content {
            Usage::Opaque => Ok(Treatment::Unknown),
            Usage::Whole(why) => Ok(Treatment::Whole(why)),
            Usage::Doubted(doubt) => Err(doubt),
            Usage::Mapped(map) => {
                self.mapped(placed, &map)?;
                Ok(Treatment::Mapped)
            }
            Usage::Corrected(map, missing) => {
                self.mapped(placed, &map)?;
                Ok(Treatment::Corrected(missing))
            }
            Usage::Partitions(volumes) => {
                let free = Vec::new();
                self.volumes(placed, Group { volumes, free })?;
                Ok(Treatment::Partitioned)
            }
            Usage::Group(group) => {
                self.volumes(placed, group)?;
                Ok(Treatment::Grouped)
            }
        }
    }

    /// Adds what a map says of a volume, if that is all that tells of it, and what lies behind its end.
    fn mapped(&mut self, placed: Placed<'_>, map: &AllocationMap) -> Result<(), Doubt> {
        self.trusts(placed.view, map.size())?;
        self.is_any_trusted = true;
        self.map.volume(map, placed.segments);
        self.used(placed, map.size()..placed.view.len(), Reason::Behind);
        Ok(())
    }

    /// Makes sure that a map which speaks of the first `size` bytes is all that tells what of them is in use.
    fn trusts(&self, view: View<'_>, size: u64) -> Result<(), Doubt> {
        view.holds("filesystem", 0, size)?;
        if opaque::is_verified(view, size)? {
            return Err(Doubt::State(PROTECTED));
        }
        self.held.map_or(Ok(()), |why| Err(Doubt::State(why)))
    }

    /// Adds bytes of a volume that are free for new volumes in it, unless no map of the disk can be trusted.
    fn free(&mut self, placed: Placed<'_>, free: &[Range<u64>]) {
        self.is_any_trusted |= !free.is_empty();
        let ranges = free.iter().filter(|_| self.held.is_none());
        for range in ranges.flat_map(|range| placed.segments.resolve(range)) {
            self.map.free(range);
        }
    }

    /// Adds bytes of a volume that are in use.
    fn used(&mut self, placed: Placed<'_>, range: Range<u64>, reason: Reason) {
        for range in placed.segments.resolve(&range) {
            self.map.used(range, reason);
        }
    }

    /// Adds volumes, what is free for new ones, and what lies between. Of those that overlap all is in use.
    fn volumes(&mut self, placed: Placed<'_>, group: Group) -> Result<(), Doubt> {
        let (view, Group { mut volumes, free }) = (placed.view, group);
        // None is left of them where volumes in volumes took them.
        if volumes.len() > MAX_VOLUMES.saturating_sub(placed.region) {
            let (what, limit) = ("volumes", to_u64(MAX_VOLUMES));
            return Err(Doubt::TooMany { what, limit });
        }
        if placed.depth >= MAX_DEPTH {
            let (what, limit) = ("volumes in each other", to_u64(MAX_DEPTH));
            return Err(Doubt::TooMany { what, limit });
        }
        if self.held.is_none() {
            let of = |volume: &Volume| view.with_volume(&volume.segments, holds_disk).ok()?;
            self.held = volumes.iter().find_map(of);
            self.is_held_late |= self.held.is_some() && self.is_any_trusted;
        }
        volumes.sort_by_key(|volume| (volume.segments.start(), volume.segments.size()));
        // Two tables, or two entries of one, that mean the same.
        volumes.dedup_by(|next, kept| next.segments == kept.segments);
        let (gaps, overlapping) = between(&volumes, &free, view.len());
        for gap in gaps {
            self.used(placed, gap, Reason::Unpartitioned);
        }
        self.free(placed, &free);
        for (number, volume) in volumes.into_iter().enumerate() {
            self.volume(placed, volume, overlapping.contains(&number));
        }
        Ok(())
    }

    /// Adds a volume: what there is of it.
    fn volume(&mut self, placed: Placed<'_>, volume: Volume, overlaps: bool) {
        let view = placed.view;
        let mut ranges = volume.segments.ranges();
        let what = match volume.part {
            Part::Partition { .. } => "partition",
            Part::LogicalVolume { .. } => "logical volume",
            Part::ArrayData => "array",
        };
        let outside = ranges.find_map(|range| view.holds(what, range.start, length(range)).err());
        let doubt = outside.or_else(|| overlaps.then_some(Doubt::Overlaps));
        let there = Segments::one(0..view.len()).within(&volume.segments);
        let segments = placed.segments.within(&there);
        let is_complete = volume.is_complete && there == volume.segments;
        // What there is lies inside.
        let _ = view.with_volume(&there, |view| {
            let recognised = match (doubt, volume.content, &volume.part) {
                (Some(doubt), ..) => Recognised::doubted(None, doubt),
                (None, Content::Whole(why), _) => Recognised::told(None, Ok(Usage::Whole(why))),
                (None, Content::Mapped(name, map), _) => Recognised::told(Some(name), map.map(Usage::Mapped)),
                (None, Content::Unknown, Part::ArrayData) => Recognised::of_disk(view, self.depth),
                (None, Content::Unknown, _) => Recognised::of_volume(view, self.depth),
            };
            let part = (placed.region, volume.part, volume.details);
            self.add(view, &segments, Some(part), is_complete, recognised);
        });
    }
}

/// What of the first `size` bytes lies in none of some volumes and is not free for others, and the numbers of those
/// that share bytes.
fn between(volumes: &[Volume], free: &[Range<u64>], size: u64) -> (Vec<Range<u64>>, BTreeSet<usize>) {
    let numbered = volumes.iter().enumerate();
    let ranges =
        numbered.flat_map(|(number, volume)| volume.segments.ranges().map(move |range| (range, number)));
    // The number of no volume.
    let free = free.iter().map(|range| (range, volumes.len()));
    let mut ranges: Vec<_> = ranges.chain(free).collect();
    ranges.sort_by_key(|(range, _)| (range.start, range.end));
    let (mut gaps, mut overlapping) = (Vec::new(), BTreeSet::new());
    // Where those end that were looked at, and which of them does.
    let (mut end, mut last) = (0, None);
    for (range, number) in ranges {
        if range.start < end {
            overlapping.extend(last.into_iter().chain([number]));
        }
        gaps.push(end.min(size)..range.start.min(size));
        if range.end > end {
            (end, last) = (range.end, Some(number));
        }
    }
    gaps.push(end.min(size)..size);
    gaps.retain(|gap| !gap.is_empty());
    (gaps, overlapping)
}

/// Why a map says nothing about what dm-verity protects.
const PROTECTED: &str = "dm-verity may protect it, and then free blocks count too";

/// The same of a partition that may be anything.
const UNCLEAR: &str = "a partition of this disk cannot be read where the signature of a hibernated system or a \
    hash tree would be";

/// Why a volume lets no map of its neighbours be trusted, if it does.
fn holds_disk(view: View<'_>) -> Option<&'static str> {
    match (swap::is_sleeping(view), opaque::is_hash_tree(view)) {
        (Ok(true), _) => Some("a hibernated system on this disk may hold unwritten changes to it"),
        (_, Ok(true)) => Some(PROTECTED),
        (Err(_), _) | (_, Err(_)) => Some(UNCLEAR),
        (Ok(false), Ok(false)) => None,
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::disk::MemoryDisk;
    use crate::units::to_usize;
    use crate::volumes::map::State;

    const PIECE: u64 = 64 << 10;

    fn ext4() -> MemoryDisk {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ext4.raw");
        let (bytes, bad) = (std::fs::read(path).unwrap(), 0..0);
        MemoryDisk { bytes, bad }
    }

    /// The same bytes in pieces that lie elsewhere, with as much between them, and where they lie.
    fn scattered(disk: &MemoryDisk) -> (MemoryDisk, Segments) {
        let count = to_u64(disk.bytes.len()) / PIECE;
        let mut other = MemoryDisk::new(2 * count * PIECE);
        other.bytes.fill(0xa5);
        // A step that shares no factor with the count.
        let step = (count / 3..count).find(|step| step % 2 == 1 && !count.is_multiple_of(*step));
        let step = step.unwrap();
        let place = |number: u64| 2 * (number * step % count) * PIECE;
        for number in 0..count {
            let from = to_usize(number * PIECE);
            other.put(place(number), &disk.bytes[from..from + to_usize(PIECE)]);
        }
        let ranges = (0..count).map(|number| place(number)..place(number) + PIECE);
        (other, Segments::new(ranges).unwrap())
    }

    fn surveyor(disk: &MemoryDisk, volumes: Vec<Volume>) -> Surveyor {
        let (view, segments) = (View::of(disk), Segments::one(0..to_u64(disk.bytes.len())));
        let mut surveyor = Surveyor::new(view, Depth::Maps, None);
        let recognised = Recognised {
            name: Some("volume group"),
            label: None,
            details: Vec::new(),
            content: Ok(Usage::Partitions(volumes)),
        };
        surveyor.add(view, &segments, None, true, recognised);
        surveyor
    }

    fn surveyed(disk: &MemoryDisk, volumes: Vec<Volume>) -> (AllocationMap, Vec<Region>) {
        let surveyor = surveyor(disk, volumes);
        (surveyor.map.build(), surveyor.regions)
    }

    fn volume(segments: Segments) -> Volume {
        Volume {
            segments,
            is_complete: true,
            part: Part::Partition {
                number: 1,
                label: None,
            },
            details: Vec::new(),
            content: Content::Unknown,
        }
    }

    #[test]
    fn a_filesystem_on_a_scattered_volume_is_read_and_mapped_as_any_other() {
        let disk = ext4();
        let whole = Survey::of(View::of(&disk)).map;
        let (other, segments) = scattered(&disk);
        assert!(segments.ranges().len() > 10);
        let (map, regions) = surveyed(&other, vec![volume(segments.clone())]);

        assert_eq!((regions[1].name, regions[1].parent), (Some("ext4"), Some(0)));
        assert!(
            matches!(regions[1].treatment, Treatment::Mapped),
            "{:?}",
            regions[1]
        );
        assert!(whole.bytes(State::Free) > 0);
        assert_eq!(map.bytes(State::Free), whole.bytes(State::Free));
        for (range, state, reason) in whole.parts() {
            for range in segments.resolve(&range) {
                assert_eq!(
                    map.bytes_in(state, &range),
                    length(&range),
                    "{range:?}: {reason:?}"
                );
            }
        }
    }

    #[test]
    fn of_volumes_that_share_a_byte_all_is_in_use() {
        let disk = ext4();
        let (other, segments) = scattered(&disk);
        let last = segments.ranges().last().unwrap().end;
        let intruder = Segments::one(last - 1..last + 1);
        let (map, regions) = surveyed(&other, vec![volume(segments), volume(intruder)]);
        assert!(
            regions[1..]
                .iter()
                .all(|region| matches!(region.doubt(), Some(Doubt::Overlaps)))
        );
        assert_eq!(map.bytes(State::Free), 0);
    }

    #[test]
    fn a_hibernated_system_that_is_found_last_lets_no_map_before_it_be_trusted() {
        let mut disk = ext4();
        let end = to_u64(disk.bytes.len());
        disk.bytes.resize(to_usize(end + PIECE), 0);
        disk.put(end + 4086, b"S1SUSPEND\0");
        let mut surveyor = surveyor(&disk, vec![volume(Segments::one(0..end))]);
        assert!(surveyor.is_any_trusted && !surveyor.is_held_late);

        let (view, segments) = (View::of(&disk), Segments::one(0..end + PIECE));
        let placed = Placed {
            view,
            segments: &segments,
            region: 0,
            depth: 0,
        };
        let sleeping = volume(Segments::one(end..end + PIECE));
        let group = Group {
            volumes: vec![sleeping],
            free: Vec::new(),
        };
        surveyor.volumes(placed, group).unwrap();

        assert!(surveyor.is_held_late && surveyor.held.is_some());
        let again = Surveyor::of(View::of(&ext4()), Depth::Maps, surveyor.held);
        assert_eq!(again.map.build().bytes(State::Free), 0);
    }
}
