//! The images of a disk, one behind the other.

use std::fmt::Debug;
use std::ops::Range;

use super::decompress::Decoder;
use super::{HostFile, Remark, Run};
use crate::error::Result;
use crate::formats::qcow2::structures::mapping::Stream;
use crate::units::{GuestOffset, HostOffset};

/// One of the images of a disk, whatever its format: it tells which ranges of the disk it has, and reads them.
pub(crate) trait Layer: Debug + Send + Sync {
    /// The file it is in.
    fn file(&self) -> &HostFile;

    /// A file besides that one that it reads.
    fn data_file(&self) -> Option<&HostFile> {
        None
    }

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
}
