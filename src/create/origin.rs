//! Where the bytes of the disk come from: a raw file, a device, or an image of any format.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::base::Base;
use super::report::Unchecked;
use super::{Options, unreadable};
use crate::devices::Subject;
use crate::disk::rescue::OnReadError;
use crate::disk::{Disk, Force, Open, Part, Underlying};
use crate::error::{Error, Invalid, Result};
use crate::formats::{self, AnyDisk, Chain, Opening, Remark, TakenFor};
use crate::output::Place;
use crate::signatures;
use crate::units::{SECTOR, to_usize};
use crate::volumes::{Selection, Volume};

/// A source that was opened.
pub(super) struct Origin {
    pub(super) source: Part<AnyDisk>,
    /// The volume that it is, if it was asked for by its name.
    pub(super) volume: Option<Volume>,
    /// Why no map in it can be trusted.
    pub(super) held: Option<&'static str>,
    /// Why its checksums are not compared, if it has some.
    pub(super) warning: Option<Unchecked>,
    /// What has checksums in an image, but was lost by its tables, in bytes of the part.
    pub(super) lost: Vec<Range<u64>>,
}

/// Opens the source, and takes the part of it that is wanted.
///
/// # Errors
///
/// - Those of [`formats::open`].
/// - Those of [`Wanted::find`](crate::volumes::Wanted::find).
/// - [`Error::Corrupt`](crate::Error::Corrupt) if an image has lost clusters or its checksum table is damaged, unless
///   zeros are good enough.
pub(super) fn open(path: &Path, options: &Options) -> Result<Origin> {
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
        ..Opening::default()
    };
    let mut disk = formats::open(path, &opening)?;
    if !is_for_a_look {
        disk.settle()?;
    }
    let warning = hold_to_checksums(&mut disk, options)?;
    if disk.len() == 0 {
        return Err(Invalid::SourceEmpty.into());
    }
    let Selection {
        segments,
        volume,
        held,
    } = options.wanted.find(&disk)?;
    let source = Part::new(disk, segments);
    let lost = lost(&source, options)?;
    Ok(Origin {
        source,
        volume,
        held,
        warning,
        lost,
    })
}

/// Sees to it that what is read of an image is compared with its checksums. Returns why that is not done, if there are
/// some.
fn hold_to_checksums(disk: &mut AnyDisk, options: &Options) -> Result<Option<Unchecked>> {
    let AnyDisk::Image(chain) = disk else {
        return Ok(None);
    };
    match chain.hold_to_checksums() {
        Ok(is_outdated) => Ok(is_outdated.then_some(Unchecked::Changed)),
        Err(error) if options.on_read_error == OnReadError::Zero => {
            let (fault, of) = error.innermost();
            let (of, why) = (of.map(Path::to_owned), fault.to_string());
            Ok(Some(Unchecked::Damaged { of, why }))
        }
        Err(error) => Err(error),
    }
}

/// What the tables of an image have lost of the part, in bytes of that; an error, unless zeros are good enough.
fn lost(source: &Part<AnyDisk>, options: &Options) -> Result<Vec<Range<u64>>> {
    let Some(chain) = source.whole().image() else {
        return Ok(Vec::new());
    };
    let (segments, mut lost) = (source.segments(), Vec::new());
    let around = segments.around();
    chain.each_lost(&around, |error| match error.lost() {
        Some(range) if segments.located(std::slice::from_ref(&range)).is_empty() => Ok(()),
        Some(range) if options.on_read_error == OnReadError::Zero => {
            let range = range.start.max(around.start)..range.end.min(around.end);
            Ok(unreadable::add(&mut lost, range)?)
        }
        Some(_) | None => Err(error),
    })?;
    // Ascending only for each of its images.
    let lost = unreadable::union(&lost, &[])?;
    Ok(unreadable::union(&segments.located(&lost), &[])?)
}

/// All files and devices that are read.
pub(super) fn subjects(disk: &dyn Disk) -> Vec<Subject> {
    disk.stands_on().into_iter().map(Underlying::subject).collect()
}

/// The format that a source begins like, where it holds a disk in an encoding that is not read here; nothing is asked of
/// an image, or if it was said what the source is.
pub(super) fn encoded(source: &Part<AnyDisk>, options: &Options) -> Option<&'static str> {
    let mut begin = [0; to_usize(SECTOR)];
    let begin = begin.get_mut(..to_usize(source.len().min(SECTOR)))?;
    if options.format.is_some() || source.read_at(begin, 0).is_err() {
        return None;
    }
    let mut known = signatures::ENCODED.iter();
    let format = known.find(|format| format.marks.iter().any(|mark| mark.is_in(begin)))?;
    Some(format.name)
}

/// The error, which tells if the image would replace not the source itself but a file that it needs.
pub(super) fn named(error: Error, disk: &AnyDisk, base: Option<&Base>, image: &Place) -> Error {
    let (Error::Invalid(Invalid::TargetIsSource(_)), Place::Path(path)) = (&error, image) else {
        return error;
    };
    let target = path.metadata().ok().and_then(|metadata| Subject::of(&metadata));
    let is_base = base.is_some_and(|base| subjects(&base.disk).into_iter().any(|file| Some(file) == target));
    let needed = disk.image().map_or_else(Vec::new, Chain::needed);
    let it = needed
        .into_iter()
        .find(|(file, ..)| Some(file.subject()) == target);
    match it {
        _ if is_base => Invalid::TargetIsBase.into(),
        Some((_, role, of)) => {
            let of = of.to_owned();
            Invalid::TargetIsBehind { role, of }.into()
        }
        None => error,
    }
}

/// What images say of themselves that their reader should know, and the paths of those behind the first.
pub(super) fn remarks(disk: &AnyDisk) -> Vec<(Remark, Option<PathBuf>)> {
    let remarks = disk.image().into_iter().flat_map(Chain::named_remarks);
    remarks.map(|(path, remark)| (remark, path)).collect()
}
