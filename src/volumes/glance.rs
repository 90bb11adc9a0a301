//! What a disk holds, for those who are about to overwrite it: found out with few reads, and never a failure.

use std::fmt::{self, Display, Formatter};

use super::doubt::Doubt;
use super::limited::Limited;
use super::region::Region;
use super::survey::Survey;
use super::view::View;
use super::wanted;
use crate::disk::Disk;

/// What a disk holds, by its tables and superblocks. No map is read, so that nothing is known of what is in use.
#[derive(Debug)]
pub struct Glance {
    /// All of the disk first, then its volumes, in the order of the disk.
    pub regions: Vec<Region>,
}

impl Glance {
    /// Looks at a disk.
    pub fn of(disk: &dyn Disk) -> Self {
        let limited = Limited::of(disk);
        let regions = Survey::names(View::of(&limited));
        Self { regions }
    }

    /// Whether it holds anything that is recognised, even if it is not clear which of two formats that is.
    pub fn is_anything(&self) -> bool {
        self.regions
            .first()
            .is_some_and(|disk| disk.name.is_some() || matches!(disk.doubt(), Some(Doubt::Ambiguous(..))))
    }

    /// Why it cannot be told whether the disk holds anything, if it cannot.
    pub fn unclear(&self) -> Option<&Doubt> {
        let disk = self.regions.first();
        disk.and_then(Region::doubt).filter(|_| !self.is_anything())
    }
}

/// For a message: `GPT: 1 (FAT32 "EFI"), 2 (ext4 "root")`, or `ext4 "root"`.
impl Display for Glance {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(disk) = self.regions.first() else {
            return Ok(());
        };
        match (disk.name, disk.doubt()) {
            (Some(name), _) => f.write_str(name)?,
            (None, Some(Doubt::Ambiguous(one, other))) => write!(f, "{one} or {other}")?,
            (None, _) => f.write_str("nothing that is recognised")?,
        }
        if let Some(label) = &disk.label {
            write!(f, " {label:?}")?;
        }
        match wanted::listed(&wanted::named(&self.regions)) {
            volumes if volumes.is_empty() => Ok(()),
            volumes => write!(f, ": {volumes}"),
        }
    }
}
