//! The checksum table of an image, read in pieces of bounded size.

use std::ops::Range;

use crc32fast::Hasher;
use zerocopy::{FromZeros, IntoBytes};

use super::ours::exactly;
use crate::error::{Corrupt, Error, Expected, Result};
use crate::formats::qcow2::Image;
use crate::formats::qcow2::structures::checksum::{
    self, MAGIC, MAX_RUN_READ, RawRun, RawTable, Sum, TRAILER, VERSION_WITH_DIGESTS,
};
use crate::formats::qcow2::structures::digest::Digest;
use crate::formats::qcow2::structures::extension::ChecksumsAt;
use crate::units::{Exact, GuestCluster, HostOffset, to_u64, to_usize};

const STRUCTURE: &str = checksum::TABLE;

/// A checksum table that was found whole: its own checksum is right, its runs are ascending and within the
/// disk, and they list as many clusters as its head says.
#[derive(Debug)]
pub struct Checksums<'a> {
    pub(super) image: &'a Image,
    pub(super) at: ChecksumsAt,
    pub(super) clusters: u64,
    pub(super) has_digests: bool,
}

/// A run, read from the file and validated.
#[derive(Debug, Default)]
pub(super) struct SumRun {
    pub(super) first: u64,
    pub(super) checksums: Vec<[u8; 4]>,
    /// As many, or none at all.
    pub(super) digests: Vec<Digest>,
}

impl SumRun {
    /// What is known of a cluster, if it is one of these.
    pub(super) fn of(&self, cluster: GuestCluster) -> Option<Sum> {
        let within = to_usize(cluster.0.checked_sub(self.first)?);
        let crc = u32::from_be_bytes(*self.checksums.get(within)?);
        let digest = self.digests.get(within).copied();
        Some(Sum { crc, digest })
    }
}

impl Image {
    /// Loads and validates the checksum table, if the image has one.
    ///
    /// # Errors
    ///
    /// - [`Error::Io`] if it cannot be read.
    /// - [`Error::Corrupt`] if any part of the table is not as it should be, or those of [`ours`](Self::ours).
    pub fn checksums(&self) -> Result<Option<Checksums<'_>>> {
        let at = self.ours()?.map(|ours| ours.checksums);
        at.map(|at| Checksums::load(self, at)).transpose()
    }
}

impl<'a> Checksums<'a> {
    fn load(image: &'a Image, at: ChecksumsAt) -> Result<Self> {
        let found = image.file.length().saturating_sub(at.offset.0);
        if found < at.length {
            let (at, expected) = (at.offset, at.length);
            return Err(Corrupt::Truncated {
                structure: STRUCTURE,
                at,
                found,
                expected,
            }
            .into());
        }
        let geometry = image.header.geometry();
        let shortest = to_u64(size_of::<RawTable>()).plus(TRAILER);
        if at.length < shortest {
            return Err(wrong(at, "length", at.length, Expected::AtLeast(shortest)));
        }
        let mut head = RawTable::new_zeroed();
        image.file.read_exact(head.as_mut_bytes(), at.offset)?;
        let has_digests = head.version.get() == VERSION_WITH_DIGESTS;
        let expected = RawTable::new(geometry, head.clusters.get(), has_digests);
        let magic = u64::from_be_bytes;
        exactly(
            STRUCTURE,
            at.offset,
            &[
                ("magic", magic(head.magic), magic(MAGIC)),
                (
                    "version",
                    head.version.get().into(),
                    expected.version.get().into(),
                ),
                (
                    "cluster_bits",
                    head.cluster_bits.get().into(),
                    expected.cluster_bits.get().into(),
                ),
                ("size", head.size.get(), expected.size.get()),
            ],
        )?;
        let table = Self {
            image,
            at,
            clusters: head.clusters.get(),
            has_digests,
        };
        table.validate(&head)?;
        Ok(table)
    }

    /// That the file ends before the cluster does in which the table ends, if so. Nothing is lost by it yet, but
    /// somebody cut it off: it was padded when it was written.
    pub(crate) fn cut_off(&self) -> Option<Error> {
        let (at, length) = (self.at.offset, self.image.file.length());
        let cluster_size = self.image.header.geometry().cluster_size();
        let end = at.0.plus(self.at.length);
        let expected = end.checked_next_multiple_of(cluster_size)?.minus(at.0);
        let found = length.minus(at.0);
        (found < expected).then(|| {
            Corrupt::Truncated {
                structure: STRUCTURE,
                at,
                found,
                expected,
            }
            .into()
        })
    }

    /// How many clusters are listed; all others read as zeros.
    pub fn clusters(&self) -> u64 {
        self.clusters
    }

    /// Whether clusters have digests.
    pub fn has_digests(&self) -> bool {
        self.has_digests
    }

    /// Calls `each` for every cluster that is listed, ascending, with what is known of it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the table cannot be read, [`Error::Corrupt`] if it was changed since it was loaded.
    pub fn for_each(&self, mut each: impl FnMut(GuestCluster, Sum)) -> Result<()> {
        let mut at = self.runs_at();
        let mut next = 0;
        while at.0 < self.trailer_at().0 {
            let run = self.read_run(&mut at, &mut next, &mut Hasher::new())?;
            let end = run.first.plus(to_u64(run.checksums.len()));
            for cluster in (run.first..end).map(GuestCluster) {
                if let Some(sum) = run.of(cluster) {
                    each(cluster, sum);
                }
            }
        }
        Ok(())
    }

    /// The same for whoever asks for one range of clusters after the other.
    pub fn in_order(&self) -> ChecksumsInOrder<'_> {
        ChecksumsInOrder {
            table: self,
            run: SumRun::default(),
            at: self.runs_at(),
            next: 0,
        }
    }

    // The table lies in the file, and is long enough for its head and its trailer: `load` has seen to it.
    pub(super) fn runs_at(&self) -> HostOffset {
        self.at.offset + to_u64(size_of::<RawTable>())
    }

    pub(super) fn trailer_at(&self) -> HostOffset {
        self.at.offset + self.at.length.minus(TRAILER)
    }

    fn validate(&self, head: &RawTable) -> Result<()> {
        let mut hasher = Hasher::new();
        hasher.update(head.as_bytes());
        let (mut at, mut next, mut clusters) = (self.runs_at(), 0, 0_u64);
        while at.0 < self.trailer_at().0 {
            let run = self.read_run(&mut at, &mut next, &mut hasher)?;
            clusters.increase(to_u64(run.checksums.len()));
        }
        let mut trailer = [0; 4];
        self.image.file.read_exact(&mut trailer, self.trailer_at())?;
        let (stored, computed) = (u32::from_be_bytes(trailer), hasher.finalize());
        if stored != computed {
            return Err(wrong(
                self.at,
                "CRC-32",
                stored.into(),
                Expected::Exactly(computed.into()),
            ));
        }
        if self.clusters != clusters {
            return Err(wrong(
                self.at,
                "number of clusters",
                self.clusters,
                Expected::Exactly(clusters),
            ));
        }
        Ok(())
    }

    /// Reads the run at `at`, which must not begin before cluster `next`, and steps behind it.
    pub(super) fn read_run(
        &self,
        at: &mut HostOffset,
        next: &mut u64,
        hasher: &mut Hasher,
    ) -> Result<SumRun> {
        let start = *at;
        let wrong =
            |field, found, expected| -> Error { Error::field(checksum::RUN, start, field, found, expected) };
        let mut raw = RawRun::new_zeroed();
        self.read_piece(at, raw.as_mut_bytes(), hasher)?;
        let (first, clusters) = (raw.first.get(), u64::from(raw.clusters.get()));
        if first < *next {
            return Err(wrong("first cluster", first, Expected::AtLeast(*next)));
        }
        if clusters == 0 {
            return Err(wrong("number of clusters", clusters, Expected::AtLeast(1)));
        }
        let limit = self
            .image
            .header
            .geometry()
            .clusters()
            .saturating_sub(first)
            .min(MAX_RUN_READ.into());
        if clusters > limit {
            return Err(wrong("number of clusters", clusters, Expected::AtMost(limit)));
        }
        // At most 256 KiB, and 2 MiB of digests.
        let mut checksums = vec![[0; 4]; to_usize(clusters)];
        self.read_piece(at, checksums.as_flattened_mut(), hasher)?;
        let listed = if self.has_digests { clusters } else { 0 };
        let mut digests = vec![[0; size_of::<Digest>()]; to_usize(listed)];
        self.read_piece(at, digests.as_flattened_mut(), hasher)?;
        *next = first.plus(clusters);
        Ok(SumRun {
            first,
            checksums,
            digests,
        })
    }

    fn read_piece(&self, at: &mut HostOffset, buf: &mut [u8], hasher: &mut Hasher) -> Result<()> {
        let (found, expected) = (self.trailer_at().0.minus(at.0), to_u64(buf.len()));
        if found < expected {
            return Err(Corrupt::Truncated {
                structure: STRUCTURE,
                at: *at,
                found,
                expected,
            }
            .into());
        }
        self.image.file.read_exact(buf, *at)?;
        hasher.update(buf);
        *at += expected;
        Ok(())
    }
}

/// The checksums of a table, asked for in ascending order.
#[derive(Debug)]
pub struct ChecksumsInOrder<'a> {
    table: &'a Checksums<'a>,
    /// The run that was read last.
    run: SumRun,
    /// Where the next one begins, and before which cluster it must not.
    at: HostOffset,
    next: u64,
}

impl ChecksumsInOrder<'_> {
    /// The CRC-32 of every cluster of a range, which begins behind all that were asked for before; `None` for
    /// one that is not listed, and so must read as zeros.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the table cannot be read, [`Error::Corrupt`] if it was changed since it was loaded.
    pub fn of(&mut self, clusters: Range<GuestCluster>) -> Result<Vec<Option<u32>>> {
        let sums = self.sums(clusters)?;
        Ok(sums.into_iter().map(|sum| sum.map(|sum| sum.crc)).collect())
    }

    /// The same with all that is known of them.
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of).
    pub fn sums(&mut self, clusters: Range<GuestCluster>) -> Result<Vec<Option<Sum>>> {
        (clusters.start.0..clusters.end.0)
            .map(|cluster| self.one(cluster))
            .collect()
    }

    /// The first cluster that is listed, from `from` on, which is not in front of any that was asked for before.
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of).
    pub fn next_listed(&mut self, from: GuestCluster) -> Result<Option<GuestCluster>> {
        while self.next <= from.0 {
            if self.at.0 >= self.table.trailer_at().0 {
                return Ok(None);
            }
            self.advance()?;
        }
        Ok(Some(GuestCluster(from.0.max(self.run.first))))
    }

    fn advance(&mut self) -> Result<()> {
        self.run = self
            .table
            .read_run(&mut self.at, &mut self.next, &mut Hasher::new())?;
        Ok(())
    }

    fn one(&mut self, cluster: u64) -> Result<Option<Sum>> {
        while self.next <= cluster && self.at.0 < self.table.trailer_at().0 {
            self.advance()?;
        }
        Ok(self.run.of(GuestCluster(cluster)))
    }
}

fn wrong(at: ChecksumsAt, field: &'static str, found: u64, expected: Expected) -> Error {
    Error::field(STRUCTURE, at.offset, field, found, expected)
}
