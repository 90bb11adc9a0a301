//! How many references there are to a cluster of the image, where there are more than one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use zerocopy::IntoBytes;

use crate::error::{Action, Error, Result};
use crate::output::WriteAt;
use crate::units::{Exact, HostOffset, to_u64, to_usize, within};

/// As many references as a cluster gets, far below the 65535 that a count has room for: an internal snapshot
/// counts all of them once more, and there can be 63.
pub(super) const MAX_REFERENCES: u16 = 1023;

/// Counts in a page.
const PAGE: u64 = 1 << 15;

/// The size of a page in bytes.
const PAGE_BYTES: u64 = PAGE * 2;

/// Pages in memory, 16 MiB: enough for 512 GiB of image in clusters of 64 KiB.
const PAGES: usize = 256;

/// The references to every cluster of an image. One reference is that of having been taken; only further ones
/// take room: in memory, and past a limit in a scratch file.
#[derive(Debug)]
pub(super) struct Refcounts {
    cluster_size: u64,
    pages: BTreeMap<u64, Page>,
    /// The pages of the scratch file, each in its place there.
    spilled: BTreeSet<u64>,
    scratch: Option<File>,
    in_memory: usize,
    /// Counts what pages are wanted for.
    clock: u64,
}

/// References beyond the first.
#[derive(Debug)]
struct Page {
    counts: Vec<u16>,
    /// Whether they are others than in the scratch file.
    is_changed: bool,
    last_used: u64,
}

impl Refcounts {
    /// `cluster_size` in bytes.
    pub(super) fn new(cluster_size: u64) -> Self {
        Self::bounded(cluster_size, PAGES)
    }

    /// The room in bytes that the counts of so many clusters can take in the scratch file.
    pub(super) fn scratch_size(clusters: u64) -> u64 {
        let pages = clusters.div_ceil(PAGE);
        if pages > to_u64(PAGES) {
            pages.times(PAGE_BYTES)
        } else {
            0
        }
    }

    fn bounded(cluster_size: u64, in_memory: usize) -> Self {
        Self {
            cluster_size,
            pages: BTreeMap::new(),
            spilled: BTreeSet::new(),
            scratch: None,
            in_memory,
            clock: 0,
        }
    }

    /// The clusters that a stream touches, one or two: it is shorter than a cluster.
    pub(super) fn touched(
        &self,
        host: HostOffset,
        length: u64,
    ) -> impl Iterator<Item = HostOffset> + Clone + use<> {
        let last = host + length - 1;
        let cluster_of = |at: HostOffset| at.0.checked_div(self.cluster_size);
        let second = (cluster_of(host) != cluster_of(last)).then_some(last);
        std::iter::once(host).chain(second)
    }

    /// How many references there are to the cluster that holds the byte at `host`, which was taken.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the scratch file cannot be used.
    pub(super) fn of(&mut self, host: HostOffset, writer: &impl WriteAt) -> Result<u16> {
        let (page, index) = self.place_of(host);
        if !self.pages.contains_key(&page) && !self.spilled.contains(&page) {
            return Ok(1);
        }
        let counts = &self.page(page, writer)?.counts;
        Ok(counts.get(index).map_or(1, |more| more.plus(1)))
    }

    /// Adds a reference to the cluster that holds the byte at `host`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the scratch file cannot be used.
    ///
    /// # Panics
    ///
    /// If a count would pass what a refcount of 16 bits can be.
    pub(super) fn add(&mut self, host: HostOffset, writer: &impl WriteAt) -> Result<()> {
        let (page, index) = self.place_of(host);
        let page = self.page(page, writer)?;
        page.is_changed = true;
        let more = page.counts.get_mut(index);
        let more = more.expect("an index is below PAGE, the counts of a page");
        let added = more.checked_add(1);
        *more = added.expect("whoever adds has looked that it is below MAX_REFERENCES");
        Ok(())
    }

    /// Calls `tell` with all clusters of `count` from `first` on that have further references: the number of the
    /// cluster, counted from `first`, and that of the references beyond the first.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the scratch file cannot be used.
    pub(super) fn for_each(
        &mut self,
        first: u64,
        count: u64,
        writer: &impl WriteAt,
        mut tell: impl FnMut(usize, u16),
    ) -> Result<()> {
        let end = first.plus(count);
        for number in first / PAGE..end.div_ceil(PAGE) {
            if !self.pages.contains_key(&number) && !self.spilled.contains(&number) {
                continue;
            }
            let start = number.times(PAGE);
            // None of a page that begins behind the first cluster.
            let skipped = to_usize(first.saturating_sub(start));
            let page = self.page(number, writer)?;
            let counts = page.counts.iter().skip(skipped);
            for (cluster, more) in (start.max(first)..end).zip(counts) {
                if *more > 0 {
                    tell(to_usize(cluster.minus(first)), *more);
                }
            }
        }
        Ok(())
    }

    fn place_of(&self, host: HostOffset) -> (u64, usize) {
        let cluster = host.0.checked_div(self.cluster_size).unwrap_or(0);
        (cluster / PAGE, to_usize(within(cluster, PAGE)))
    }

    /// A page, which may be new.
    fn page(&mut self, number: u64, writer: &impl WriteAt) -> Result<&mut Page> {
        self.clock.increase(1);
        if !self.pages.contains_key(&number) {
            if self.pages.len() >= self.in_memory {
                self.spill(writer)?;
            }
            let page = self.load(number)?;
            self.pages.insert(number, page);
        }
        let page = self
            .pages
            .get_mut(&number)
            .expect("it was put there if it was not");
        page.last_used = self.clock;
        Ok(page)
    }

    fn load(&self, number: u64) -> Result<Page> {
        let mut counts = vec![0; to_usize(PAGE)];
        if let (Some(scratch), true) = (&self.scratch, self.spilled.contains(&number)) {
            let at = number.times(PAGE_BYTES);
            scratch.read_exact_at(counts.as_mut_bytes(), at).map_err(failed)?;
        }
        Ok(Page {
            counts,
            is_changed: false,
            last_used: 0,
        })
    }

    /// Moves the page that was not used for longest to the scratch file.
    fn spill(&mut self, writer: &impl WriteAt) -> Result<()> {
        let oldest = self.pages.iter().min_by_key(|(_, page)| page.last_used);
        let Some(number) = oldest.map(|(number, _)| *number) else {
            return Ok(());
        };
        let scratch = match self.scratch.take() {
            Some(scratch) => scratch,
            None => writer.scratch()?,
        };
        let page = self.pages.remove(&number);
        if let Some(page) = page.filter(|page| page.is_changed) {
            let at = number.times(PAGE_BYTES);
            scratch.write_all_at(page.counts.as_bytes(), at).map_err(failed)?;
            self.spilled.insert(number);
        }
        self.scratch = Some(scratch);
        Ok(())
    }
}

fn failed(error: io::Error) -> Error {
    Error::target_io(Action::Scratch, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::MemoryImage;

    #[test]
    fn counts_are_the_same_in_memory_and_in_the_scratch_file() {
        let writer = MemoryImage::default();
        let (mut whole, mut spilling) = (Refcounts::new(512), Refcounts::bounded(512, 2));
        let clusters = (0..1000_u64).map(|i| i * i * 7919 % (9 * PAGE) + 3);
        for cluster in clusters.clone() {
            for refcounts in [&mut whole, &mut spilling] {
                refcounts
                    .add(HostOffset(cluster * 512 + cluster % 512), &writer)
                    .unwrap();
            }
        }
        assert!(spilling.spilled.len() > 5 && spilling.pages.len() == 2);
        assert!(whole.spilled.is_empty());
        for cluster in clusters {
            let at = HostOffset(cluster * 512);
            assert!(whole.of(at, &writer).unwrap() > 1);
            assert_eq!(whole.of(at, &writer).unwrap(), spilling.of(at, &writer).unwrap());
        }
        assert_eq!(
            whole.of(HostOffset(1 << 50), &writer).unwrap(),
            1,
            "never added to"
        );
        for (first, count) in [
            (0, 9 * PAGE),
            (5, 7),
            (PAGE - 1, 2),
            (PAGE / 2, 3 * PAGE),
            (20 * PAGE, 9),
        ] {
            let mut told = [Vec::new(), Vec::new()];
            for (told, refcounts) in told.iter_mut().zip([&mut whole, &mut spilling]) {
                refcounts
                    .for_each(first, count, &writer, |index, more| told.push((index, more)))
                    .unwrap();
            }
            assert_eq!(told[0], told[1]);
            assert!(told[0].iter().all(|(index, _)| to_u64(*index) < count));
        }
        let mut sum = 0;
        whole
            .for_each(0, 10 * PAGE, &writer, |_, more| sum += u64::from(more))
            .unwrap();
        assert_eq!(sum, 1000);
    }
}
