//! The checksums of what came through a pipe, kept until the image tells at its end what they should be.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::ops::Range;

use crate::disk::Disk;
use crate::error::{Action, Corrupt, Error, Result};
use crate::formats::Chain;
use crate::formats::qcow2::Checksums;
use crate::units::{Exact, GuestCluster, to_usize};

/// The clusters of a disk with the CRC-32 of each, in ascending order.
#[derive(Debug)]
pub(super) struct Proof {
    /// A number and a CRC-32 for each cluster that was read.
    file: BufWriter<File>,
    /// In bytes.
    cluster_size: u64,
    /// The size of the disk in bytes.
    size: u64,
    /// Whether what is not listed is zeros, because no other image lies behind.
    is_alone: bool,
}

impl Proof {
    /// Of nothing yet of a disk, in an empty file.
    pub(super) fn new(file: File, disk: &Chain) -> Self {
        Self {
            file: BufWriter::new(file),
            cluster_size: disk.own_cluster_size(),
            size: disk.len(),
            is_alone: disk.is_alone(),
        }
    }

    /// Adds clusters, the first of which lies behind all that were added before.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if they cannot be kept.
    pub(super) fn add(&mut self, first: GuestCluster, sums: &[u32]) -> Result<()> {
        for (cluster, crc) in (first.0..).zip(sums) {
            let written = self.file.write_all(&cluster.to_be_bytes());
            written
                .and_then(|()| self.file.write_all(&crc.to_be_bytes()))
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Compares all clusters of a range of the disk, in bytes, with what they should be. What was not read is zeros.
    ///
    /// # Errors
    ///
    /// - [`Corrupt::Checksum`] if one is not as it should be.
    /// - [`Error::Io`] if the checksums cannot be read.
    pub(super) fn compare(self, checksums: &Checksums<'_>, range: &Range<u64>) -> Result<()> {
        let of_zeros = crc32fast::hash(&vec![0; to_usize(self.cluster_size)]);
        let mut file = self
            .file
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        file.rewind().map_err(failed)?;
        let mut kept = BufReader::new(file);
        let mut next = range.start.checked_div(self.cluster_size).unwrap_or(0);
        let end = range.end.div_ceil(self.cluster_size);
        let (mut read, mut listed) = (read_next(&mut kept)?, checksums.in_order());
        loop {
            // What is neither read nor listed is zeros, as it should be.
            let first = listed.next_listed(GuestCluster(next))?.map(|cluster| cluster.0);
            let first = first.into_iter().chain(read.map(|(cluster, _)| cluster)).min();
            let Some(cluster) = first.filter(|cluster| *cluster < end) else {
                return Ok(());
            };
            let expected = listed.of(GuestCluster(cluster)..GuestCluster(cluster.plus(1)))?;
            let expected = expected.first().copied().flatten();
            let expected = expected.or(self.is_alone.then_some(of_zeros));
            let found = read.filter(|(number, _)| *number == cluster);
            if found.is_some() {
                read = read_next(&mut kept)?;
            }
            let found = found.map_or(of_zeros, |(_, crc)| crc);
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                let start = cluster.times(self.cluster_size);
                let lost = (start..start.plus(self.cluster_size).min(self.size)).into();
                return Err(Corrupt::Checksum {
                    found,
                    expected,
                    lost,
                }
                .into());
            }
            next = cluster.plus(1);
        }
    }
}

/// The next cluster that was read, if there is one.
fn read_next(kept: &mut impl Read) -> Result<Option<(u64, u32)>> {
    let (mut cluster, mut crc) = ([0; 8], [0; 4]);
    match kept.read_exact(&mut cluster) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(failed(error)),
    }
    kept.read_exact(&mut crc).map_err(failed)?;
    Ok(Some((u64::from_be_bytes(cluster), u32::from_be_bytes(crc))))
}

fn failed(error: io::Error) -> Error {
    Error::target_io(Action::Scratch, error)
}
