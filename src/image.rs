//! An image that is read back: hostile input, of which nothing is believed before it was checked.

#![warn(clippy::arithmetic_side_effects)]

mod checksums;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub use checksums::Checksums;

use crate::error::{Action, Corrupt, Error, Result};
use crate::format::extension;
use crate::format::header::{AUTOCLEAR_CHECKSUMS, Compat, Header};
use crate::units::{HostOffset, to_u64, to_usize};

/// An image whose header was validated.
#[derive(Debug)]
pub struct Image {
    file: File,
    /// In bytes.
    length: u64,
    header: Header,
}

/// Whether a checksum table still describes the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Nobody has opened the image for writing since it was made.
    Unchanged,
    /// Somebody has, so that clusters may differ without being damaged.
    Changed,
    /// Version 2 has no autoclear bits to tell.
    Unknown,
}

impl Image {
    /// Opens an image and validates its header.
    ///
    /// # Errors
    ///
    /// - [`Error::Io`] if it cannot be read.
    /// - [`Error::Corrupt`] and [`Error::Unsupported`] as [`Header::parse`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::source_io(Action::Open, error))?;
        let length = file
            .metadata()
            .map_err(|error| Error::source_io(Action::Examine, error))?
            .len();
        let mut bytes = vec![0; Compat::V1_1.header_length().min(to_usize(length))];
        read_exact(&file, &mut bytes, HostOffset(0))?;
        let header = Header::parse(&bytes)?;
        Ok(Self { file, length, header })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Loads and validates the checksum table, if the image has one.
    ///
    /// # Errors
    ///
    /// - [`Error::Io`] if it cannot be read.
    /// - [`Error::Corrupt`] if the header extensions, or any part of the table, are not as they should be.
    pub fn checksums(&self) -> Result<Option<Checksums<'_>>> {
        let cluster_size = self.header.geometry().cluster_size();
        if self.length < cluster_size {
            let (at, found) = (HostOffset(0), self.length);
            return Err(Corrupt::Truncated {
                structure: "header cluster",
                at,
                found,
                expected: cluster_size,
            }
            .into());
        }
        let mut first_cluster = vec![0; to_usize(cluster_size)];
        read_exact(&self.file, &mut first_cluster, HostOffset(0))?;
        match extension::find_checksums(&first_cluster, self.header.extensions_at())? {
            Some(at) => Checksums::load(self, at).map(Some),
            None => Ok(None),
        }
    }

    /// Whether the checksum table still describes the disk.
    pub fn freshness(&self) -> Freshness {
        match self.header.compat() {
            Compat::V0_10 => Freshness::Unknown,
            Compat::V1_1 if self.header.has_autoclear(AUTOCLEAR_CHECKSUMS) => Freshness::Unchanged,
            Compat::V1_1 => Freshness::Changed,
        }
    }
}

/// Fills `buf` with the bytes of the file from `at` on.
fn read_exact(file: &File, buf: &mut [u8], at: HostOffset) -> Result<()> {
    debug_assert!(to_u64(buf.len()) <= 2 << 20, "read in bounded pieces");
    file.read_exact_at(buf, at.0)
        .map_err(|error| Error::source_io(Action::Read(at.0), error))
}
