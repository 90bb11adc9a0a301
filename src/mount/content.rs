//! What the files of a mount hold.

use super::clusters::Clusters;
use super::names::Shown;
use super::overlay::Overlay;
use crate::error::Result;
use crate::formats::Chain;
use crate::units::{claimed_end, length, to_u64, to_usize};

/// The files that a disk is shown as, and what was written to them.
#[derive(Debug)]
pub(super) struct Content {
    clusters: Clusters<Chain>,
    files: Vec<Shown>,
    /// What was written, if anything can be. Each file has its own: the kernel caches each on its own.
    overlay: Option<Overlay>,
}

impl Content {
    pub(super) fn new(disk: Chain, files: Vec<Shown>, overlay: Option<Overlay>) -> Self {
        let clusters = Clusters::of(disk);
        Self {
            clusters,
            files,
            overlay,
        }
    }

    pub(super) fn disk(&self) -> &Chain {
        self.clusters.disk()
    }

    pub(super) fn files(&self) -> &[Shown] {
        &self.files
    }

    /// Whether files can be written to.
    pub(super) fn is_writable(&self) -> bool {
        self.overlay.is_some()
    }

    /// The bytes of a file from `at` on: `most` of them, or fewer at its end.
    ///
    /// # Errors
    ///
    /// Those of [`Disk::read_at`](crate::disk::Disk::read_at), and of [`Overlay::read`].
    pub(super) fn read(&self, number: usize, at: u64, most: u64) -> Result<Vec<u8>> {
        let Some(file) = self.files.get(number) else {
            return Ok(Vec::new());
        };
        let mut bytes = vec![0; to_usize(file.size().saturating_sub(at).min(most))];
        match &self.overlay {
            None => self.read_below(file, &mut bytes, at)?,
            Some(overlay) => overlay.read(to_u64(number), at, &mut bytes, |buf, at| {
                self.read_below(file, buf, at)
            })?,
        }
        Ok(bytes)
    }

    /// Writes as many of the bytes as lie in front of the end of a file. Returns how many.
    ///
    /// # Errors
    ///
    /// Those of [`Overlay::write`].
    pub(super) fn write(&self, number: usize, at: u64, bytes: &[u8]) -> Result<usize> {
        let (Some(file), Some(overlay)) = (self.files.get(number), &self.overlay) else {
            return Ok(0);
        };
        let room = file.size().saturating_sub(at).min(to_u64(bytes.len()));
        let bytes = bytes.get(..to_usize(room)).unwrap_or_default();
        let whose = (to_u64(number), file.size());
        overlay.write(whose, at, bytes, |buf, at| self.read_below(file, buf, at))?;
        Ok(bytes.len())
    }

    /// Fills `buf` with the bytes of a file as the image has them.
    fn read_below(&self, file: &Shown, buf: &mut [u8], at: u64) -> Result<()> {
        let mut rest = buf;
        let range = at..claimed_end(at, to_u64(rest.len()));
        for place in file.segments.resolve(&range) {
            let (now, behind) = rest.split_at_mut(to_usize(length(&place)).min(rest.len()));
            self.clusters.read_at(now, place.start)?;
            rest = behind;
        }
        Ok(())
    }
}
