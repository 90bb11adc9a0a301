//! The metadata of a volume group, as far as it concerns one of its physical volumes. Source: LVM2,
//! `lib/format_text/import_vsn1.c` and `export.c`.

use super::label::hyphenated;
use super::logical::Logical;
use super::text::Section;
use crate::units::{Exact, claimed_end, claimed_size};
use crate::volumes::doubt::Doubt;

/// What offsets and lengths count in, in bytes.
const SECTOR: u64 = 512;

/// A physical volume, as its group tells of it.
#[derive(Debug)]
pub(super) struct Physical {
    /// The name that it has in the metadata, such as `pv0`.
    pub(super) name: String,
    /// Where its extents begin, in bytes.
    pub(super) start: u64,
    /// How many extents it has.
    pub(super) extents: u64,
    /// Their length in bytes.
    pub(super) extent_size: u64,
}

impl Physical {
    /// Where an extent begins, in bytes, or where the last one ends.
    pub(super) fn place(&self, extent: u64) -> u64 {
        self.start.plus(extent.times(self.extent_size))
    }
}

/// A volume group.
#[derive(Debug)]
pub(super) struct VolumeGroup<'a> {
    pub(super) name: &'a str,
    pub(super) uuid: &'a str,
    section: &'a Section,
}

/// What a volume group may be said to be; all else keeps it from being used as it is, or by one machine alone.
const GROUP_STATUS: &[&str] = &["RESIZEABLE", "READ", "WRITE"];

/// The same of a physical volume.
const PHYSICAL_STATUS: &[&str] = &["ALLOCATABLE"];

/// The sections that a volume group may have.
const GROUP_SECTIONS: &[&str] = &[
    "physical_volumes",
    "logical_volumes",
    "historical_logical_volumes",
];

/// What is not there although it always is.
const INCOMPLETE: Doubt = Doubt::State("its metadata is incomplete");

impl<'a> VolumeGroup<'a> {
    /// The group that a text is about.
    pub(super) fn of(text: &'a Section) -> Result<Self, Doubt> {
        let is_known =
            text.text("contents") == Some("Text Format Volume Group") && text.number("version") == Some(1);
        if !is_known {
            return Err(Doubt::State("the type of its metadata is unknown"));
        }
        let mut groups = text.sections();
        let (Some((name, section)), None) = (groups.next(), groups.next()) else {
            return Err(Doubt::State("its metadata is not about one volume group"));
        };
        let uuid = section.text("id").ok_or(INCOMPLETE)?;
        let fault = |fault| Doubt::Named {
            what: "volume group",
            name: name.to_owned(),
            fault,
        };
        if section.get("format").is_some() && section.text("format") != Some("lvm2") {
            return Err(fault("its format is unknown"));
        }
        let is_odd = |(name, _): (&str, &Section)| !GROUP_SECTIONS.contains(&name);
        if section.sections().any(is_odd) {
            return Err(fault("it has an unknown section"));
        }
        if !section.has_only("status", GROUP_STATUS) || !section.has_only("flags", &[]) {
            return Err(fault(
                "it is exported, shared or incomplete, or has an unknown status",
            ));
        }
        if section.text("lock_type").is_some_and(|kind| kind != "none") {
            return Err(fault("machines share it"));
        }
        Ok(Self { name, uuid, section })
    }

    /// The physical volume with a UUID.
    pub(super) fn physical(&self, uuid: &str) -> Result<Physical, Doubt> {
        let uuid = hyphenated(uuid);
        let volumes = self.section.section("physical_volumes").ok_or(INCOMPLETE)?;
        let mut found = None;
        for (name, volume) in volumes.sections() {
            let fault = |fault| Doubt::Named {
                what: "physical volume",
                name: name.to_owned(),
                fault,
            };
            if !volume.has_only("status", PHYSICAL_STATUS) || !volume.has_only("flags", &[]) {
                return Err(fault("it is missing, or has an unknown status"));
            }
            if volume.text("id") == Some(&*uuid) && found.replace((name, volume)).is_some() {
                return Err(fault("another one has its UUID"));
            }
        }
        let (name, volume) = found.ok_or(Doubt::State(
            "it is not in the volume group that its metadata is about",
        ))?;
        let number = |section: &Section, name| section.number(name).ok_or(INCOMPLETE);
        let extent_size = claimed_size(number(self.section, "extent_size")?, SECTOR);
        let start = claimed_size(number(volume, "pe_start")?, SECTOR);
        let extents = number(volume, "pe_count")?;
        let end = claimed_end(start, claimed_size(extents, extent_size));
        if extent_size == 0 || end == u64::MAX {
            return Err(Doubt::State("its extents have no size, or are too large"));
        }
        Ok(Physical {
            name: name.to_owned(),
            start,
            extents,
            extent_size,
        })
    }

    /// Its logical volumes, by name.
    pub(super) fn logical(&self) -> Result<Vec<Logical<'a>>, Doubt> {
        let volumes = self.section.section("logical_volumes");
        let volumes = volumes.into_iter().flat_map(Section::sections);
        volumes
            .map(|(name, section)| Logical::of(name, section))
            .collect()
    }

    /// The names of its physical volumes.
    pub(super) fn physical_names(&self) -> impl Iterator<Item = &'a str> {
        let volumes = self.section.section("physical_volumes");
        volumes
            .into_iter()
            .flat_map(Section::sections)
            .map(|(name, _)| name)
    }
}
