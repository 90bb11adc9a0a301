//! Which bytes of a disk are wanted: all of them, a section, or a volume by its name.

use std::fmt::{self, Display, Formatter};

use super::doubt::Doubt;
use super::region::{Part, Region};
use super::survey::Survey;
use super::view::View;
use crate::disk::{Disk, Section, Segments};
use crate::error::{Invalid, Result};
use crate::units::Exact;

/// How many volumes a message lists.
const MAX_LISTED: usize = 20;

/// Why the map of a volume is not trusted that shares bytes with another.
const OVERLAPS: &str = "it overlaps with another partition";

/// Which bytes of a disk are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// All of them.
    #[default]
    Whole,
    /// Those of a section.
    Section(Section),
    /// Those of a volume, by its name: see [`name_of`].
    Volume(String),
}

/// The bytes that are wanted.
#[derive(Debug)]
pub struct Selection {
    /// Where they lie in the disk.
    pub segments: Segments,
    /// The volume whose bytes they are, if they were asked for by its name.
    pub volume: Option<Volume>,
    /// Why no map in the volume can be trusted, however right it is: what else is on the disk may tell more.
    pub held: Option<&'static str>,
}

/// A volume that was asked for by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The name that tells it from all others, such as `2` or `vg/root`.
    pub name: String,
    /// What it is.
    pub part: Part,
    /// What it holds, if that was recognised.
    pub content: Option<&'static str>,
    /// The label of the filesystem.
    pub label: Option<String>,
}

/// What it is, the name that its owner gave it left out: `partition 2 (ext4)`.
impl Display for Volume {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.part {
            Part::Partition { .. } => write!(f, "partition {}", self.name)?,
            Part::LogicalVolume { .. } => write!(f, "logical volume {}", self.name)?,
            Part::ArrayData => f.write_str(&self.name)?,
        }
        match self.content {
            Some(content) => write!(f, " ({content})"),
            None => Ok(()),
        }
    }
}

impl Wanted {
    /// Finds the bytes in a disk. To find a volume, all that tells of volumes is read.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if a section lies outside of the disk or is not aligned to sectors, or there is no volume of that
    /// name, or more than one, or not all of it lies in the disk in a known order.
    pub fn find(&self, disk: &dyn Disk) -> Result<Selection> {
        let whole = 0..disk.len();
        match self {
            Self::Whole => Ok(Selection {
                segments: Segments::one(whole),
                volume: None,
                held: None,
            }),
            Self::Section(section) => {
                let (start, length) = section.within(disk.len())?;
                Ok(Selection {
                    segments: Segments::one(start..start.plus(length)),
                    volume: None,
                    held: None,
                })
            }
            Self::Volume(name) => {
                let Survey { regions, held, .. } = Survey::of(View::of(disk));
                let (name, region, part) = volume(&regions, name)?;
                Ok(Selection {
                    segments: region.segments.clone(),
                    volume: Some(Volume {
                        name,
                        part: part.clone(),
                        content: region.name,
                        label: region.label.clone(),
                    }),
                    held: held.or(match region.doubt() {
                        Some(Doubt::Overlaps) => Some(OVERLAPS),
                        Some(_) | None => None,
                    }),
                })
            }
        }
    }
}

impl Selection {
    /// Of the regions of the disk, those that are told of these bytes: the volume and what it holds, the volume first, or all
    /// that share bytes with a section.
    pub fn of(&self, regions: Vec<Region>) -> Vec<Region> {
        let root = self.volume.as_ref().map(|volume| {
            let mut numbers = 0..regions.len();
            numbers.find(|number| {
                let region = regions.get(*number);
                region.and_then(|region| name_of(&regions, region)).as_ref() == Some(&volume.name)
            })
        });
        let depth = root
            .flatten()
            .and_then(|root| regions.get(root))
            .map_or(0, |root| root.depth);
        // What became of those in front, among which is the parent of each.
        let mut numbers: Vec<Option<usize>> = Vec::with_capacity(regions.len());
        let mut kept = Vec::new();
        for (number, mut region) in regions.into_iter().enumerate() {
            region.parent = region.parent.and_then(|parent| *numbers.get(parent)?);
            let is_kept = match root {
                Some(root) => region.parent.is_some() || root == Some(number),
                None => self.touches(&region),
            };
            numbers.push(is_kept.then_some(kept.len()));
            if is_kept {
                // What lies in a region is deeper.
                region.depth = region.depth.minus(depth);
                kept.push(region);
            }
        }
        kept
    }

    /// Whether a region shares bytes with these, or lies there without a byte.
    fn touches(&self, region: &Region) -> bool {
        region.segments.ranges().any(|there| {
            self.segments.ranges().any(|own| {
                there.start < own.end && own.start < there.end || there.is_empty() && there.start == own.end
            })
        })
    }
}

/// A volume and its name.
type Named<'a> = (String, &'a Region, &'a Part);

/// The volumes of a disk and their names.
pub(super) fn named(regions: &[Region]) -> Vec<Named<'_>> {
    let volumes = regions.iter();
    let named = volumes.filter_map(|region| Some((name_of(regions, region)?, region, region.part.as_ref()?)));
    named.collect()
}

/// The volume that a name means: its own name, or else a label or the bare name of a logical volume, if only one has it.
fn volume<'a>(regions: &'a [Region], name: &str) -> Result<(String, &'a Region, &'a Part), Invalid> {
    let named = named(regions);
    let exact = |(own, ..): &&Named<'_>| own == name;
    let by_label =
        |(_, region, part): &&Named<'_>| part.label() == Some(name) || region.label.as_deref() == Some(name);
    let mut found: Vec<_> = named.iter().filter(exact).collect();
    if found.is_empty() {
        found = named.iter().filter(by_label).collect();
    }
    let listed = || listed(&named);
    match *found {
        [(own, region, part)] if region.is_complete => Ok((own.clone(), region, part)),
        [(own, ..)] => Err(Invalid::VolumeIncomplete { name: own.clone() }),
        [] => Err(Invalid::NoVolume {
            name: name.to_owned(),
            volumes: listed(),
        }),
        [..] => Err(Invalid::VolumeAmbiguous {
            name: name.to_owned(),
            volumes: listed(),
        }),
    }
}

/// The name that tells a volume from all others of a disk: the number of a partition, `GROUP/VOLUME` of a logical volume,
/// `array` of the data in a member of a RAID; of a partition or an array that lies in another volume, the name of that and
/// a slash in front. `None` of the disk itself.
pub fn name_of(regions: &[Region], region: &Region) -> Option<String> {
    let part = region.part.as_ref()?;
    let parent = region.parent.and_then(|parent| regions.get(parent));
    let own = match part {
        Part::Partition { number, .. } => number.to_string(),
        Part::ArrayData => "array".to_owned(),
        Part::LogicalVolume { name } => {
            let group = parent.and_then(|parent| parent.label.as_deref());
            return Some(format!("{}/{name}", group.unwrap_or_default()));
        }
    };
    // A region comes behind its parent, so that this ends.
    match parent.and_then(|parent| name_of(regions, parent)) {
        Some(above) => Some(format!("{above}/{own}")),
        None => Some(own),
    }
}

/// For a message: the names and what the volumes hold.
pub(super) fn listed(named: &[Named<'_>]) -> String {
    let words = named.iter().take(MAX_LISTED).map(|(name, region, part)| {
        let label = part.label().filter(|_| matches!(part, Part::Partition { .. }));
        let label = label.or(region.label.as_deref());
        let label = label.map(|label| format!(" {label:?}")).unwrap_or_default();
        match region.name {
            Some(content) => format!("{name} ({content}{label})"),
            None => format!("{name}{label}"),
        }
    });
    let mut words: Vec<_> = words.collect();
    if named.len() > MAX_LISTED {
        words.push("...".to_owned());
    }
    words.join(", ")
}
