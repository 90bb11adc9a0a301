//! What images say of themselves, and record of the disk that they were made of, as far as that still holds.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::qcow2::{Image, Record};
use super::{AnyDisk, Chain, Remark};
use crate::disk::Part;
use crate::error::{Error, Result, Unrecorded};

impl Chain {
    /// The record of the source that this disk was, as far as it still holds.
    ///
    /// # Errors
    ///
    /// Those of [`Image::record`](super::qcow2::Image::record).
    pub fn record(&self) -> Result<Result<Record, Unrecorded>> {
        let Some(image) = self.image() else {
            return Ok(Err(Unrecorded::Nothing));
        };
        if image.extensions().ours.is_some() && !image.is_as_written() {
            return Ok(Err(if image.is_outdated() {
                Unrecorded::Changed
            } else {
                Unrecorded::Doubtful
            }));
        }
        let Some(record) = image.record()? else {
            return Ok(Err(Unrecorded::Nothing));
        };
        // Version 2 has no bit that tells of changes: the program that made it version 2 may have made others.
        let version = image.header().compat().version();
        if record.image_version != Some(version) {
            return Ok(Err(Unrecorded::Changed));
        }
        if !self.is_active() {
            return Ok(Err(Unrecorded::Snapshot));
        }
        // What it is known to stand on is what it stood on then.
        let is_known = record.base.is_some() && !self.is_alone();
        if !is_known && (!self.is_alone() || image.backing_name().is_some()) {
            return Ok(Err(Unrecorded::Backing));
        }
        Ok(Ok(record))
    }

    /// What could not be read when the image was made, in bytes of the disk. If a program has changed the image, it may
    /// have overwritten the list, which is lost then.
    ///
    /// # Errors
    ///
    /// Those of [`Image::record`](super::qcow2::Image::record), if the image says that it is unchanged.
    pub(crate) fn unreadable_then(&self) -> Result<Vec<Range<u64>>> {
        let Some(image) = self.image().filter(|_| self.is_active()) else {
            return Ok(Vec::new());
        };
        match image.record() {
            Ok(record) => Ok(record.unwrap_or_default().unreadable),
            Err(error) if image.claims_unchanged() => Err(error),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// What its images say about themselves, and the names of those behind the first.
    pub(crate) fn named_remarks(&self) -> impl Iterator<Item = (Option<PathBuf>, Remark)> {
        let first = self.paths().next();
        self.remarks()
            .map(move |(path, remark)| ((Some(path) != first).then(|| Path::to_owned(path)), remark))
    }

    /// The record, whether or not it tells what is free; nothing if it is damaged, or of another state.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be read.
    fn whatever_is_recorded(&self) -> Result<Record> {
        let image = self.image().filter(|_| self.is_active());
        match image.map_or(Ok(None), Image::record) {
            Ok(record) => Ok(record.unwrap_or_default()),
            Err(Error::Corrupt(_)) => Ok(Record::default()),
            Err(error) => Err(error),
        }
    }
}

impl Part<AnyDisk> {
    /// What an image records of the source it was made of, as far as it is about this part: what could not be read, in
    /// bytes of the part, and the size of a sector in bytes. Nothing of what is no image.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be read.
    pub(crate) fn recorded(&self) -> Result<(Vec<Range<u64>>, Option<u32>)> {
        let record = match self.whole().image() {
            Some(chain) => chain.whatever_is_recorded()?,
            None => Record::default(),
        };
        Ok((self.segments().located(&record.unreadable), record.sector_size))
    }
}
