//! New identifiers for a copy of a disk, so that it can stand beside the original in one machine; and what keeps its own.

use std::ops::Range;

use super::doubt::Doubt;
use super::patched::Patched;
use super::region::{Part, Region, Treatment};
use super::registry::{FILESYSTEMS, READERS, TABLES};
use super::renewal::Renewal;
use super::scheme::Scheme;
use super::survey::Survey;
use super::view::View;
use super::wanted::name_of;
use super::{Fitted, Flaw, tables};
use crate::disk::{Disk, Segments};
use crate::units::{Exact, claimed_end, length, to_u64, to_usize};

/// The commands of formats that are recognised by nothing but a signature.
const TOOLS: [(&str, &str); 4] = [
    ("NTFS", "ntfslabel --new-serial DEVICE"),
    ("NILFS2", "nilfs-tune -U $(uuidgen) DEVICE"),
    ("JFS", "jfs_tune -U random DEVICE"),
    ("ZFS", "zpool reguid POOL"),
];

/// An identifier that a copy gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewId {
    /// What it identifies, and of which kind it is, such as `ext4 UUID`.
    pub what: &'static str,
    /// Where, such as `partition 2`.
    pub place: String,
    /// That of the original.
    pub old: String,
    /// That of the copy.
    pub new: String,
}

/// Something that keeps its identifiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What it is, such as `XFS`.
    pub what: &'static str,
    /// Where, such as `partition 2`.
    pub place: String,
    /// Why.
    pub why: String,
    /// The command of its own tools that gives it new ones, if one is known.
    pub command: Option<&'static str>,
}

/// What of a disk can get new identifiers, and what cannot. Nothing is written yet.
#[derive(Debug, Default)]
pub struct Identifiers {
    changes: Vec<Change>,
    kept: Vec<Kept>,
}

/// What becomes of the identifiers of a copy.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Those that are new.
    pub new: Vec<NewId>,
    /// What keeps its own.
    pub kept: Vec<Kept>,
    /// What is written: where, in bytes of the target, and what.
    pub patches: Vec<(u64, Vec<u8>)>,
}

/// New identifiers of one structure: all of them, or none.
#[derive(Debug)]
struct Change {
    what: &'static str,
    place: String,
    tool: &'static str,
    ids: Vec<NewId>,
    /// In bytes of the disk.
    patches: Vec<(u64, Vec<u8>)>,
    /// What tells of it, in bytes of the disk: none of it may be damaged.
    told_by: Vec<Range<u64>>,
    is_table: bool,
}

impl Identifiers {
    /// Those of what lies in some bytes of a disk, whose GPT may be made to fit a target of another size.
    pub fn of(disk: &dyn Disk, wanted: &Segments, fitted: Option<(&Fitted, u64)>) -> Self {
        let patched = Patched {
            disk,
            patches: fitted.map_or(&[], |(fitted, _)| &fitted.patches),
            size: fitted.map_or(disk.len(), |(_, size)| size),
        };
        let top: &dyn Disk = if fitted.is_some() { &patched } else { disk };
        let regions = Survey::of(View::of(disk)).regions;
        let flaw = tables(top).flaws.into_iter().find(is_doubtful);
        let collector = Collector {
            disk,
            top,
            regions: &regions,
            doubt: flaw.map(|flaw| flaw.to_string()),
        };
        let mut found = Self::default();
        for region in regions.iter().filter(|region| is_within(region, wanted)) {
            match collector.look(region) {
                Some(Ok(change)) if !change.ids.is_empty() => found.changes.push(change),
                Some(Err(kept)) => found.kept.push(kept),
                Some(Ok(_)) | None => {}
            }
        }
        found
    }

    /// What becomes of them on a target that has these bytes of the disk, of which some are damaged.
    pub fn settle(&self, target: &Segments, bad: &[Range<u64>]) -> Outcome {
        let mut outcome = Outcome {
            kept: self.kept.clone(),
            ..Outcome::default()
        };
        let is_bad = |change: &Change| {
            let overlaps =
                |own: &Range<u64>| bad.iter().any(|bad| bad.start < own.end && own.start < bad.end);
            change.told_by.iter().any(overlaps)
        };
        let table_is_bad = self
            .changes
            .iter()
            .any(|change| change.is_table && is_bad(change));
        for change in &self.changes {
            let patches = change.patches.iter().map(|(at, bytes)| {
                let place = place_in(target, *at, to_u64(bytes.len()))?;
                Some((place, bytes.clone()))
            });
            let why = if is_bad(change) {
                "it is damaged in the image"
            } else if table_is_bad {
                "the partition table is damaged in the image"
            } else if let Some(patches) = patches.collect::<Option<Vec<_>>>() {
                outcome.new.extend(change.ids.iter().cloned());
                outcome.patches.extend(patches);
                continue;
            } else {
                "it reaches past the end of the target"
            };
            outcome.kept.push(Kept {
                what: change.what,
                place: change.place.clone(),
                why: why.to_owned(),
                command: Some(change.tool),
            });
        }
        outcome
    }
}

/// Where bytes of the disk go, if all of them lie side by side in the target.
fn place_in(target: &Segments, at: u64, length: u64) -> Option<u64> {
    let mut number = 0;
    while let Some((place, range)) = target.nth(number) {
        if range.start <= at && claimed_end(at, length) <= range.end {
            return Some(place.plus(at.minus(range.start)));
        }
        number.increase(1);
    }
    None
}

/// Whether all of a region is among the bytes that are wanted.
fn is_within(region: &Region, wanted: &Segments) -> bool {
    let mut ranges = region.segments.ranges();
    ranges.all(|range| {
        let mut wanted = wanted.ranges();
        wanted.any(|wanted| wanted.start <= range.start && range.end <= wanted.end)
    })
}

/// Whether a table with this flaw may not be the one that counts.
fn is_doubtful(flaw: &Flaw) -> bool {
    match flaw {
        Flaw::Grown { .. } => false,
        Flaw::Damaged { .. }
        | Flaw::Stray { .. }
        | Flaw::Lost { .. }
        | Flaw::Differ { .. }
        | Flaw::CutOff { .. } => true,
    }
}

/// What looks at each region.
struct Collector<'a> {
    disk: &'a dyn Disk,
    /// The same, with the GPT that the target gets.
    top: &'a dyn Disk,
    regions: &'a [Region],
    /// What is wrong with the partition table, if anything is.
    doubt: Option<String>,
}

impl Collector<'_> {
    /// What of a region gets new identifiers, or why it keeps its own; none if it has none.
    fn look(&self, region: &Region) -> Option<Result<Change, Kept>> {
        if region.name.is_none() && region.doubt().is_none() {
            return None;
        }
        let scheme = self.scheme_of(region);
        let what = region.name.unwrap_or("content in doubt");
        let tool = scheme.map(|scheme| scheme.tool).or_else(|| tool_of(what));
        let changed = self.may_change(region).and_then(|()| {
            let renew = scheme.and_then(|scheme| Some((scheme, scheme.renew?)));
            let (scheme, renew) = renew.ok_or_else(|| LEFT.to_owned())?;
            let renewal = self.with(region, renew).map_err(|doubt| doubt.to_string())?;
            Ok(self.change(region, what, scheme, renewal))
        });
        Some(changed.map_err(|why| Kept {
            what,
            place: self.place(region),
            why,
            command: tool,
        }))
    }

    /// Makes sure that nothing about a region is in doubt.
    fn may_change(&self, region: &Region) -> Result<(), String> {
        match &region.treatment {
            Treatment::Doubted(doubt) => return Err(doubt.to_string()),
            Treatment::Corrected(missing) => return Err(missing.to_string()),
            Treatment::Partitioned | Treatment::Mapped => {}
            Treatment::Grouped | Treatment::Unknown | Treatment::Whole(_) => return Err(LEFT.to_owned()),
        }
        match &self.doubt {
            Some(doubt) if region.parent.is_none() => return Err(doubt.clone()),
            Some(_) => return Err("the partition table of the disk is damaged".to_owned()),
            None => {}
        }
        if !region.is_complete {
            return Err("a part of it lies on another disk".to_owned());
        }
        let mut above = Some(region);
        while let Some(this) = above {
            if this.part == Some(Part::ArrayData) {
                return Err("it is in a member of a RAID, and the other members have the same".to_owned());
            }
            above = this.parent.and_then(|parent| self.regions.get(parent));
        }
        Ok(())
    }

    /// By which scheme it was recognised, if by one.
    fn scheme_of(&self, region: &Region) -> Option<&'static Scheme> {
        let of_table = |treatment: &Treatment| matches!(treatment, Treatment::Partitioned);
        let schemes = if of_table(&region.treatment) {
            TABLES
        } else {
            FILESYSTEMS
        };
        let name = region.name?;
        let is_it = |scheme: &&Scheme| self.with(region, |view| (scheme.is)(view)).unwrap_or(false);
        let is_read = READERS.iter().any(|reader| name.starts_with(reader.name));
        schemes.iter().filter(|_| !is_read).find(is_it)
    }

    /// Looks into the bytes of a region.
    fn with<T>(&self, region: &Region, look: impl FnOnce(View<'_>) -> Result<T, Doubt>) -> Result<T, Doubt> {
        match region.parent {
            None => look(View::of(self.top)),
            Some(_) => View::of(self.disk).with_volume(&region.segments, look)?,
        }
    }

    fn change(&self, region: &Region, what: &'static str, scheme: &Scheme, renewal: Renewal) -> Change {
        let is_table = matches!(region.treatment, Treatment::Partitioned);
        let patches: Vec<_> = match region.parent {
            None => renewal.patches,
            Some(_) => renewal
                .patches
                .iter()
                .flat_map(|(at, bytes)| resolved(&region.segments, *at, bytes))
                .collect(),
        };
        let written = patches
            .iter()
            .map(|(at, bytes)| *at..at.plus(to_u64(bytes.len())));
        let told_by = if is_table {
            written.collect()
        } else {
            region.segments.ranges().cloned().collect()
        };
        let ids = renewal.ids.into_iter().map(|id| NewId {
            what: id.what,
            place: match id.partition {
                Some(number) => format!("partition {number}"),
                None => self.place(region),
            },
            old: id.old,
            new: id.new,
        });
        Change {
            what,
            place: self.place(region),
            tool: scheme.tool,
            ids: ids.collect(),
            patches,
            told_by,
            is_table,
        }
    }

    /// How a region is called: `disk`, `partition 2`, `logical volume vg/root`.
    fn place(&self, region: &Region) -> String {
        let name = name_of(self.regions, region).unwrap_or_default();
        match &region.part {
            None => "disk".to_owned(),
            Some(Part::Partition { .. }) => format!("partition {name}"),
            Some(Part::LogicalVolume { .. }) => format!("logical volume {name}"),
            Some(Part::ArrayData) => name,
        }
    }
}

/// Why what is sound keeps its identifiers.
const LEFT: &str = "more than a few fields depend on them: its own tools change them";

fn tool_of(what: &str) -> Option<&'static str> {
    let reader = READERS.iter().find(|reader| what.starts_with(reader.name));
    let other = || TOOLS.iter().find(|(name, _)| *name == what);
    match reader {
        Some(reader) => reader.tool,
        None => other().map(|(_, tool)| *tool),
    }
}

/// Bytes of a volume, in the places where they lie.
fn resolved(segments: &Segments, at: u64, bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let ranges = segments.resolve(&(at..at.plus(to_u64(bytes.len()))));
    let mut rest = bytes;
    let piece = |range: Range<u64>| {
        let (here, behind) = rest.split_at(to_usize(length(&range)).min(rest.len()));
        rest = behind;
        (range.start, here.to_vec())
    };
    ranges.map(piece).collect()
}
