//! The files of a disk, one behind the other.

use std::fmt::Debug;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::decompress::Decoder;
use super::qcow2::Image;
use super::{HostFile, Remark, Run};
use crate::disk::{Change, Disk, FileDisk};
use crate::error::Result;
use crate::formats::qcow2::structures::mapping::{Mapping, Stream};
use crate::units::{GuestOffset, HostOffset, SECTOR};

/// One of the files of a disk, whatever its format: it tells which ranges of the disk it has, and reads them.
pub(crate) trait Layer: Debug + Send + Sync {
    /// The name it was opened by.
    fn path(&self) -> &Path;

    /// Bytes of the disk that it speaks of.
    fn size(&self) -> u64;

    /// What reading is best aligned to, in bytes: a power of two.
    fn cluster_size(&self) -> u64;

    /// How much of the disk is lost with a table that cannot be read, in bytes.
    fn table_reach(&self) -> u64 {
        self.cluster_size()
    }

    /// The longest range from `at` on, up to `limit` bytes, that is in one place. It is never empty unless `at` is at
    /// or behind the end, or `limit` is 0.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`](crate::Error::Corrupt) if a table is damaged there.
    /// - [`Error::Io`](crate::Error::Io) if the file cannot be read.
    fn run_at(&self, at: GuestOffset, limit: u64) -> Result<Run>;

    /// Fills `buf` with the bytes of the disk from `at` on, which are data at `host` and behind it.
    ///
    /// # Errors
    ///
    /// As [`run_at`](Self::run_at).
    fn read(&self, host: HostOffset, at: GuestOffset, buf: &mut [u8]) -> Result<()>;

    /// Decompresses the cluster that holds the bytes of `guest`.
    ///
    /// # Errors
    ///
    /// As [`run_at`](Self::run_at).
    fn decode(
        &self,
        decoder: &mut Decoder,
        stream: Stream,
        guest: Range<u64>,
        cluster: &mut [u8],
    ) -> Result<()>;

    /// Which of its files was seen to change since it was opened, and how.
    ///
    /// # Errors
    ///
    /// - [`Error::Io`](crate::Error::Io) if the system cannot tell.
    /// - [`Error::Corrupt`](crate::Error::Corrupt) if a raw file is smaller.
    fn change(&self) -> Result<Option<(&Path, Change)>>;

    /// The file of an image.
    fn file(&self) -> Option<&HostFile> {
        None
    }

    /// A file besides the first that it reads.
    fn data_file(&self) -> Option<&HostFile> {
        None
    }

    /// What it says about itself that its reader should know.
    fn remarks(&self) -> Vec<Remark> {
        Vec::new()
    }

    /// Whether what is read is its active state, not a snapshot.
    fn is_active(&self) -> bool {
        true
    }

    /// Whether what is read is decrypted.
    fn is_encrypted(&self) -> bool {
        false
    }

    /// What it is, if that is qcow2.
    fn image(&self) -> Option<&Image> {
        None
    }

    /// What it is, if that is a raw file that is not empty.
    fn raw(&self) -> Option<&FileDisk> {
        None
    }
}

/// A raw file or device; `None` if it is empty.
#[derive(Debug)]
pub(super) struct RawLayer {
    pub(super) path: PathBuf,
    pub(super) source: Option<FileDisk>,
}

impl Layer for RawLayer {
    fn path(&self) -> &Path {
        &self.path
    }

    /// Its last sector may be there in part only: the rest is a hole.
    fn size(&self) -> u64 {
        let length = self.source.as_ref().map_or(0, Disk::len);
        length.checked_next_multiple_of(SECTOR).unwrap_or(length)
    }

    fn cluster_size(&self) -> u64 {
        SECTOR
    }

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

    fn read(&self, _: HostOffset, at: GuestOffset, buf: &mut [u8]) -> Result<()> {
        if let Some(source) = &self.source {
            return source.read_at(buf, at.0);
        }
        buf.fill(0);
        Ok(())
    }

    /// Never asked: nothing in it is compressed.
    fn decode(&self, _: &mut Decoder, _: Stream, guest: Range<u64>, cluster: &mut [u8]) -> Result<()> {
        self.read(HostOffset(guest.start), GuestOffset(guest.start), cluster)
    }

    fn change(&self) -> Result<Option<(&Path, Change)>> {
        let change = self.source.as_ref().map_or(Ok(None), FileDisk::change)?;
        Ok(change.map(|change| (self.path(), change)))
    }

    fn raw(&self) -> Option<&FileDisk> {
        self.source.as_ref()
    }
}
