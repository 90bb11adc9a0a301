//! Where the bytes of the disk come from: a raw file, a device, or an image of any format.

use std::path::{Path, PathBuf};

use super::Options;
use crate::devices::Subject;
use crate::disk::{Disk, Force, Open, Part, Underlying};
use crate::error::Result;
use crate::formats::{self, AnyDisk, Opening, Remark, TakenFor};

/// Opens the source, and takes the part of it that is wanted.
///
/// # Errors
///
/// - Those of [`formats::open`].
/// - [`Error::Invalid`](crate::Error::Invalid) if the part lies outside.
pub(super) fn open(path: &Path, options: &Options) -> Result<Part<AnyDisk>> {
    let is_for_a_look = options.plan_only;
    let opening = Opening {
        format: options.format,
        taken_for: TakenFor::Raw,
        access: options.access.clone(),
        open: Open {
            force: Force::if_asked(options.force || is_for_a_look),
            is_for_a_look,
            ..Open::default()
        },
    };
    let disk = formats::open(path, &opening)?;
    if !is_for_a_look {
        disk.settle()?;
    }
    Ok(Part::new(disk, options.part)?)
}

/// All files and devices that are read.
pub(super) fn subjects(disk: &dyn Disk) -> Vec<Subject> {
    disk.stands_on().into_iter().map(Underlying::subject).collect()
}

/// What images say of themselves that their reader should know, and the paths of those behind the first.
pub(super) fn remarks(disk: &AnyDisk) -> Vec<(Remark, Option<PathBuf>)> {
    let own = disk.stands_on().first().map(|file| file.path());
    let named = |(path, remark)| (remark, (Some(path) != own).then(|| Path::to_owned(path)));
    disk.remarks().map(named).collect()
}
