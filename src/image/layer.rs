//! The files of a disk, one behind the other.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::decompress::Decoder;
use super::{Image, Run, View};
use crate::error::{Corrupt, Result};
use crate::format::mapping::{Mapping, Stream};
use crate::source::{Change, FileSource, Source};
use crate::units::{GuestOffset, HostOffset, SECTOR, to_usize};

/// One of the files of a disk.
#[derive(Debug)]
pub(super) enum Layer {
    /// A qcow2 image.
    Image(Box<ImageLayer>),
    /// A raw file or device.
    Raw(Box<RawLayer>),
}

/// An image in a certain state.
#[derive(Debug)]
pub(super) struct ImageLayer {
    pub(super) image: Image,
    pub(super) view: View,
}

/// A raw file or device; `None` if it is empty.
#[derive(Debug)]
pub(super) struct RawLayer {
    pub(super) path: PathBuf,
    pub(super) source: Option<FileSource>,
}

impl Layer {
    /// Bytes of the disk that it speaks of.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Image(layer) => layer.view.size,
            // Its last sector may be there in part only: the rest is a hole.
            Self::Raw(layer) => {
                let length = layer.source.as_ref().map_or(0, Source::len);
                length.checked_next_multiple_of(SECTOR).unwrap_or(length)
            }
        }
    }

    /// The name it was opened by.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Image(layer) => layer.image.file.path(),
            Self::Raw(layer) => &layer.path,
        }
    }

    /// Which of its files was seen to change since it was opened, and how.
    pub(super) fn change(&self) -> Result<Option<(&Path, Change)>> {
        let change = match self {
            Self::Image(layer) => layer.image.file.change()?,
            Self::Raw(layer) => layer.source.as_ref().map_or(Ok(None), FileSource::change)?,
        };
        let data = match self {
            Self::Image(layer) => layer.image.data_file(),
            Self::Raw(_) => None,
        };
        match (change, data) {
            (Some(change), _) => Ok(Some((self.path(), change))),
            (None, Some(data)) => Ok(data.change()?.map(|change| (data.path(), change))),
            (None, None) => Ok(None),
        }
    }

    /// As [`Image::run_at`].
    pub(super) fn run_at(&self, at: GuestOffset, limit: u64) -> Result<Run> {
        match self {
            Self::Image(layer) => layer.image.run_at(layer.view, at, limit),
            Self::Raw(layer) => layer.run_at(at, limit),
        }
    }
}

impl RawLayer {
    fn run_at(&self, at: GuestOffset, limit: u64) -> Result<Run> {
        let data = match &self.source {
            Some(source) => source.next_data(at.0)?,
            None => None,
        };
        let hole = |length| Run::new(length, Mapping::Zero);
        Ok(match data {
            None => hole(limit),
            Some(range) if range.start > at.0 => hole(limit.min(range.start.saturating_sub(at.0))),
            Some(range) => Run::new(
                limit.min(range.end.saturating_sub(at.0)),
                Mapping::Data(HostOffset(at.0)),
            ),
        })
    }

    /// Fills `buf` with the bytes from `at` on, all of them in front of its end.
    pub(super) fn read_at(&self, at: GuestOffset, buf: &mut [u8]) -> Result<()> {
        if let Some(source) = &self.source {
            return source.read_at(buf, at.0);
        }
        buf.fill(0);
        Ok(())
    }
}

impl Image {
    /// Reads bytes of uncompressed clusters.
    pub(crate) fn read_data(&self, host: HostOffset, buf: &mut [u8]) -> Result<()> {
        let Some(file) = self.data_file() else {
            return self.file.read_exact(buf, host);
        };
        file.read_exact(buf, host)
            .map_err(|error| error.elsewhere(file.path()))
    }

    /// Decompresses the cluster that holds the bytes of `guest`.
    pub(crate) fn decode(
        &self,
        decoder: &mut Decoder,
        stream: Stream,
        guest: Range<u64>,
        cluster: &mut [u8],
    ) -> Result<()> {
        // At most two clusters: the bits of an entry hold no more.
        decoder.stream.resize(to_usize(stream.length), 0);
        self.file.read_exact(&mut decoder.stream, stream.at)?;
        let compression = self.header.compression();
        decoder.decode(compression, cluster).map_err(|fault| {
            Corrupt::Stream {
                at: stream.at,
                fault,
                lost: guest.into(),
            }
            .into()
        })
    }
}
