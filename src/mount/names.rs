//! The files that a disk is shown as: all of it, and each of its volumes.

use std::collections::HashSet;

use crate::units::to_u64;
use crate::volumes::{Part, Region, Segments};

/// How long a name is at most without its end, in bytes. The limit of Linux is 255 for all of it.
const LONGEST: usize = 200;

/// A file: all of a disk, or a volume of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its name: `disk.raw`, `part2.raw`, or as in `/dev/mapper` that of a logical volume, `vg-root.raw`.
    pub name: String,
    /// Where its bytes lie on the disk.
    pub segments: Segments,
    /// The number of its region; none of a disk that could not be searched for volumes.
    pub region: Option<usize>,
}

impl Shown {
    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.segments.size()
    }
}

/// The files of a disk of so many bytes, with these regions.
pub(super) fn files(size: u64, regions: &[Region]) -> Vec<Shown> {
    let mut shown = vec![Shown {
        name: "disk.raw".to_owned(),
        segments: Segments::one(0..size),
        region: (!regions.is_empty()).then_some(0),
    }];
    let mut taken: HashSet<_> = shown.iter().map(|shown| shown.name.clone()).collect();
    let mut stems: Vec<String> = Vec::new();
    for (number, region) in regions.iter().enumerate() {
        let stem = stem(region, regions, &stems);
        if !stem.is_empty() && region.size() > 0 && region.is_complete {
            let names = (1_u64..).map(|number| match number {
                1 => format!("{stem}.raw"),
                number => format!("{stem}.{number}.raw"),
            });
            // As many as there are regions are taken at most.
            let name = names
                .take(regions.len().saturating_add(2))
                .find(|name| !taken.contains(name));
            if let Some(name) = name {
                taken.insert(name.clone());
                shown.push(Shown {
                    name,
                    segments: region.segments.clone(),
                    region: Some(number),
                });
            }
        }
        stems.push(stem);
    }
    shown
}

/// The name of a region without its end, of which those in front of it are known; empty for all of the disk.
fn stem(region: &Region, regions: &[Region], stems: &[String]) -> String {
    let above = region.parent.and_then(|parent| stems.get(parent));
    let prefix = match above {
        Some(above) if !above.is_empty() => format!("{above}-"),
        Some(_) | None => String::new(),
    };
    let stem = match &region.part {
        None => return String::new(),
        Some(Part::Partition { number, .. }) => format!("{prefix}part{number}"),
        Some(Part::ArrayData) => format!("{prefix}array"),
        Some(Part::LogicalVolume { name }) => {
            let group = region.parent.and_then(|parent| regions.get(parent));
            let group = group.and_then(|group| group.label.as_deref()).unwrap_or_default();
            format!("{}-{}", doubled(group), doubled(name))
        }
    };
    safe(&stem)
}

/// As names stand in `/dev/mapper`, where a lone hyphen separates them. Source: LVM2, `dm_build_dm_name`.
fn doubled(name: &str) -> String {
    name.replace('-', "--")
}

/// Text of the disk as the name of a file that surprises no program: without slashes, control characters and what
/// turns text around, not hidden, and not too long.
fn safe(name: &str) -> String {
    let mut safe = String::new();
    for character in name.chars() {
        let is_plain = character.is_alphanumeric() || "+_.-".contains(character);
        let character = if is_plain { character } else { '_' };
        if safe.len().saturating_add(character.len_utf8()) > LONGEST {
            break;
        }
        safe.push(character);
    }
    if safe.starts_with(['.', '-']) {
        safe.insert(0, '_');
    }
    safe
}

/// How many files there are, and the bytes of all of them together.
pub(super) fn totals(files: &[Shown]) -> (u64, u64) {
    let sizes = files.iter().map(Shown::size);
    let bytes = sizes.fold(0, u64::saturating_add);
    (to_u64(files.len()), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::Treatment;

    fn region(parent: Option<usize>, part: Option<Part>, label: Option<&str>) -> Region {
        Region {
            segments: Segments::one(0..512),
            parent,
            depth: 0,
            part,
            is_complete: true,
            name: None,
            label: label.map(str::to_owned),
            details: Vec::new(),
            used: 0,
            copied: 0,
            metadata: 0,
            treatment: Treatment::Unknown,
        }
    }

    fn partition(parent: usize, number: u32, label: Option<&str>) -> Region {
        let part = Part::Partition { number, label: None };
        region(Some(parent), Some(part), label)
    }

    fn volume(parent: usize, name: &str) -> Region {
        let name = name.to_owned();
        region(Some(parent), Some(Part::LogicalVolume { name }), None)
    }

    fn names(regions: &[Region]) -> Vec<String> {
        files(1 << 20, regions)
            .into_iter()
            .map(|shown| shown.name)
            .collect()
    }

    #[test]
    fn volumes_are_named_by_their_numbers_and_groups() {
        let regions = [
            region(None, None, None),
            partition(0, 1, None),
            partition(0, 2, Some("my-vg")),
            volume(2, "root"),
            volume(2, "swap-1"),
            partition(3, 1, None),
            region(Some(1), Some(Part::ArrayData), None),
        ];
        assert_eq!(
            names(&regions),
            [
                "disk.raw",
                "part1.raw",
                "part2.raw",
                "my--vg-root.raw",
                "my--vg-swap--1.raw",
                "my--vg-root-part1.raw",
                "part1-array.raw",
            ]
        );
    }

    #[test]
    fn names_out_of_the_image_lead_nowhere_and_differ() {
        let long = "l".repeat(300);
        let regions = [
            region(None, None, Some("../..")),
            volume(0, "/etc/passwd"),
            volume(0, "_etc_passwd"),
            volume(0, "a\n\u{202e}\0"),
            volume(0, &long),
            partition(0, 1, None),
            partition(0, 1, None),
        ];
        let names = names(&regions);
        let distinct: HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), 7);
        assert_eq!(names[1], "_.._..-_etc_passwd.raw");
        assert_eq!(names[2], "_.._..-_etc_passwd.2.raw");
        assert_eq!(names[3], "_.._..-a___.raw");
        assert!(names.iter().all(|name| name.len() < 255 && !name.contains('/')));
        assert_eq!(names[6], "part1.2.raw");
    }

    #[test]
    fn a_volume_that_is_not_all_here_is_not_shown() {
        let mut partly = volume(0, "partly");
        partly.is_complete = false;
        let regions = [region(None, None, Some("vg")), partly, volume(0, "root")];
        assert_eq!(names(&regions), ["disk.raw", "vg-root.raw"]);
    }
}
