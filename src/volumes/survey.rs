//! From the whole source to its partitions and what they hold: the regions, and the map that they come to.

use std::ops::Range;

use super::answer;
use super::containers::partitions;
use super::doubt::Doubt;
use super::filesystems::swap;
use super::map::{AllocationMap, Reason};
use super::opaque;
use super::region::{Region, Treatment};
use super::registry::{FILESYSTEMS, TABLES, is_anything};
use super::scheme::{Content, Found, Part, Read, Scheme};
use super::view::View;
use crate::units::to_u64;

/// How many partitions a table may have.
const MAX_PARTS: usize = 1024;

/// What was found out about a source, whatever its holes.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) map: AllocationMap,
    pub(super) regions: Vec<Region>,
    /// Why no map of this disk can be trusted, however right it is.
    held: Option<&'static str>,
}

impl Survey {
    /// Looks into all of a source.
    pub(super) fn of(view: View<'_>) -> Self {
        let mut survey = Self {
            map: AllocationMap::new(view.len()),
            regions: Vec::new(),
            held: None,
        };
        survey.add(view, 0, None, Recognised::of_disk(view));
        survey
    }

    /// Adds a stretch that begins at or behind the end of what is known to be in use so far.
    fn add(&mut self, view: View<'_>, depth: usize, part: Option<&Part>, recognised: Recognised) {
        let index = self.regions.len();
        self.regions.push(Region {
            range: view.range(),
            depth,
            part: part.map(|part| (part.number, part.label.clone())),
            name: recognised.name,
            label: recognised.label,
            used: 0,
            copied: 0,
            treatment: Treatment::Unknown,
        });
        let (used, treatment) = match recognised.content {
            Ok(content) => self.content(view, depth, content),
            Err(doubt) => self.whole(view, Treatment::Doubted(doubt)),
        };
        if let Some(region) = self.regions.get_mut(index) {
            (region.used, region.treatment) = (used, treatment);
        }
    }

    /// Adds what is in use of a stretch. Returns how many bytes that is.
    fn content(&mut self, view: View<'_>, depth: usize, content: Content) -> (u64, Treatment) {
        let before = self.map.used();
        let treatment = match content {
            Content::Opaque => return self.whole(view, Treatment::Unknown),
            Content::Mapped(map) => match self.mapped(view, &map) {
                Err(doubt) => return self.whole(view, Treatment::Doubted(doubt)),
                Ok(()) => Treatment::Mapped,
            },
            Content::Corrected(map, missing) => match self.mapped(view, &map) {
                Err(doubt) => return self.whole(view, Treatment::Doubted(doubt)),
                Ok(()) => Treatment::Corrected(missing),
            },
            Content::Parts(parts) if parts.len() > MAX_PARTS => {
                let (what, limit) = ("partitions", to_u64(MAX_PARTS));
                return self.whole(view, Treatment::Doubted(Doubt::TooMany { what, limit }));
            }
            Content::Parts(parts) => {
                let end = parts.iter().map(|part| part.range.end.min(view.len())).max();
                if let Err(doubt) = ends_before_raid(view, end.unwrap_or(0)) {
                    return self.whole(view, Treatment::Doubted(doubt));
                }
                self.held = parts.iter().find_map(|part| holds_disk(view, part));
                self.parts(view, depth, parts);
                Treatment::Partitioned
            }
        };
        (self.map.used().saturating_sub(before), treatment)
    }

    /// Adds what a map says of a stretch, if that is all that tells of it, and what lies behind its end.
    fn mapped(&mut self, view: View<'_>, map: &AllocationMap) -> Result<(), Doubt> {
        self.trusts(view, map.size())?;
        self.map.append(map, view.range().start);
        let end = view.range().start.saturating_add(map.size());
        self.map.push(end..view.range().end, Reason::Behind);
        Ok(())
    }

    /// Makes sure that a map which speaks of the first `size` bytes is all that tells what of them is in use.
    fn trusts(&self, view: View<'_>, size: u64) -> Result<(), Doubt> {
        view.holds("filesystem", 0, size)?;
        ends_before_raid(view, size)?;
        if opaque::is_verified(view, size)? {
            return Err(Doubt::State(PROTECTED));
        }
        self.held.map_or(Ok(()), |why| Err(Doubt::State(why)))
    }

    /// Adds all of a stretch, as far as it lies behind what is known to be in use.
    fn whole(&mut self, view: View<'_>, treatment: Treatment) -> (u64, Treatment) {
        let range = view.range();
        let known = self.map.extents().last().map_or(0, |last| last.range.end);
        self.map.push(range.start.max(known)..range.end, Reason::Unknown);
        (view.len(), treatment)
    }

    /// Adds partitions and what lies between them. Of those that overlap all is in use.
    fn parts(&mut self, view: View<'_>, depth: usize, mut parts: Vec<Part>) {
        parts.sort_by_key(|part| (part.range.start, part.range.end));
        // Two tables, or two entries of one, that mean the same.
        parts.dedup_by(|next, kept| next.range == kept.range);
        let mut end = 0;
        let mut parts = parts.into_iter().peekable();
        while let Some(part) = parts.next() {
            let overlaps =
                part.range.start < end || parts.peek().is_some_and(|next| next.range.start < part.range.end);
            self.unpartitioned(view, end..part.range.start);
            end = end.max(part.range.end);
            // What there is of it.
            let there = part.range.start.min(view.len())..part.range.end.min(view.len());
            let Ok(inner) = view.part("partition", &there) else {
                continue;
            };
            let recognised = match view.part("partition", &part.range) {
                Err(doubt) => Recognised::doubted(None, doubt),
                Ok(_) if overlaps => Recognised::doubted(None, Doubt::Overlaps),
                Ok(_) => Recognised::of_part(inner),
            };
            self.add(inner, depth.saturating_add(1), Some(&part), recognised);
        }
        self.unpartitioned(view, end..view.len());
    }

    fn unpartitioned(&mut self, view: View<'_>, range: Range<u64>) {
        let end = range.end.min(view.len());
        if range.start < end {
            let from = view.range().start;
            let range = from.saturating_add(range.start)..from.saturating_add(end);
            self.map.push(range, Reason::Unpartitioned);
        }
    }
}

/// Why a map says nothing about what dm-verity protects.
const PROTECTED: &str = "dm-verity may protect it: each block counts then, in use or not";

/// The same of a partition that may be anything.
const UNCLEAR: &str =
    "a partition of this disk cannot be read where a hibernated system or a hash tree would be told";

/// Makes sure that the superblock of a mirror that a stretch is part of lies behind what is looked into.
fn ends_before_raid(view: View<'_>, end: u64) -> Result<(), Doubt> {
    if opaque::mirror_end(view)?.is_some_and(|limit| limit < end) {
        return Err(Doubt::State("the superblock of its RAID lies in it"));
    }
    Ok(())
}

/// Why a partition lets no map of its neighbours be trusted, if it does.
fn holds_disk(disk: View<'_>, part: &Part) -> Option<&'static str> {
    let view = disk.part("partition", &part.range).ok()?;
    match (swap::is_sleeping(view), opaque::is_hash_tree(view)) {
        (Ok(true), _) => Some("a hibernated system, which may know more of it, sleeps on this disk"),
        (_, Ok(true)) => Some(PROTECTED),
        (Err(_), _) | (_, Err(_)) => Some(UNCLEAR),
        (Ok(false), Ok(false)) => None,
    }
}

/// What a scheme says of a stretch.
fn read(scheme: &Scheme, view: View<'_>) -> Result<Found, Doubt> {
    match scheme.read {
        Read::Alone(read) => read(view),
        Read::Among(read) => read(view, is_anything),
    }
}

/// What a stretch was recognised as, if anything.
#[derive(Debug)]
struct Recognised {
    name: Option<&'static str>,
    label: Option<String>,
    content: Result<Content, Doubt>,
}

impl Recognised {
    /// Of all of a source.
    fn of_disk(view: View<'_>) -> Self {
        let schemes = TABLES.iter().chain(FILESYSTEMS);
        Self::among(
            schemes,
            view,
            opaque::name(view).or_else(|doubt| {
                // What a table proves to be its own is the signature of nothing else.
                match partitions::proven(view) {
                    Some(own) => opaque::name_but(view, own),
                    None => Err(doubt),
                }
            }),
        )
    }

    /// Of a partition. A table in it is not followed, but may be what is in use rather than a filesystem.
    fn of_part(view: View<'_>) -> Self {
        let table = answer::first(TABLES, |scheme| (scheme.is)(view));
        let recognised = Self::among(FILESYSTEMS.iter(), view, opaque::name(view));
        match (table, recognised.name) {
            // Where a table cannot be read, much else cannot either: that is in doubt already, or known for sure.
            (Ok(None) | Err(_), _) => recognised,
            (Ok(Some(table)), Some(name)) => Self::doubted(None, Doubt::Ambiguous(table.name, name)),
            (Ok(Some(table)), None) => Self {
                name: Some(table.name),
                ..recognised
            },
        }
    }

    /// By which of some schemes, or as what else.
    fn among(
        schemes: impl Iterator<Item = &'static Scheme>,
        view: View<'_>,
        opaque: Result<Option<&'static str>, Doubt>,
    ) -> Self {
        let (mut found, mut unclear) = (Vec::new(), None);
        for scheme in schemes {
            match (scheme.is)(view) {
                Ok(true) => found.push(scheme),
                Ok(false) => {}
                Err(doubt) => unclear = unclear.or(Some(doubt)),
            }
        }
        let opaque = opaque.unwrap_or_else(|doubt| {
            unclear = unclear.take().or(Some(doubt));
            None
        });
        match (&*found, opaque, unclear) {
            ([], None, Some(doubt)) => Self::doubted(None, doubt),
            ([], name, _) => Self {
                name,
                label: None,
                content: Ok(Content::Opaque),
            },
            ([one, other, ..], ..) => Self::doubted(None, Doubt::Ambiguous(one.name, other.name)),
            ([scheme], Some(name), _) => Self::doubted(None, Doubt::Ambiguous(name, scheme.name)),
            ([scheme], None, Some(doubt)) => Self::doubted(Some(scheme.name), doubt),
            ([scheme], None, None) => match read(scheme, view) {
                Ok(Found { name, label, content }) => Self {
                    name: Some(name),
                    label,
                    content: Ok(content),
                },
                Err(doubt) => Self::doubted(Some(scheme.name), doubt),
            },
        }
    }

    fn doubted(name: Option<&'static str>, doubt: Doubt) -> Self {
        Self {
            name,
            label: None,
            content: Err(doubt),
        }
    }
}
