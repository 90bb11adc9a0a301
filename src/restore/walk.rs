//! From the disk's runs to what is read, made zeros or left in one go.

use std::ops::Range;

use super::reference::Reference;
use super::stretch::Stretch;
use crate::disk::Disk;
use crate::error::{Action, Corrupt, Error, Result};
use crate::formats::qcow2::ChecksumsInOrder;
use crate::formats::{Chain, ChainRun};
use crate::units::{Exact, GuestCluster, GuestOffset, length, within};
use crate::volumes::Segments;

/// How much is made zeros or left in one job, in bytes: of a huge disk more, so that it is a few thousand jobs.
const STRETCH: u64 = 1 << 30;

/// How many table entries, and so clusters, are given up where a table cannot be read.
const UNREADABLE_ENTRIES: u64 = 8192;

/// What is to be done with a range of the disk.
#[derive(Debug)]
pub(super) struct Job {
    /// In bytes of the disk, whole clusters: checksums are of these.
    pub(super) range: Range<u64>,
    /// What of it is wanted.
    pub(super) wanted: Stretch,
    pub(super) content: Task,
}

#[derive(Debug)]
pub(super) enum Task {
    /// Something in it must be read. No longer than a window.
    Data(Window),
    /// All of it is zeros.
    Zeros,
    /// Nobody has use for it.
    Nothing,
    /// Where it is cannot be told.
    Lost,
}

/// As much as is read in one go.
#[derive(Debug)]
pub(super) struct Window {
    /// All of it, side by side.
    pub(super) parts: Vec<Span>,
    /// The checksums of its clusters, if there are any to compare; none for a cluster that must be zeros.
    pub(super) expected: Vec<Option<u32>>,
}

impl Window {
    /// What of it lies in an image or behind it, from its beginning to its end.
    pub(super) fn runs(&self) -> impl DoubleEndedIterator<Item = ChainRun> {
        self.parts.iter().filter_map(|part| match part.place {
            Whereabouts::Run(run) => Some(ChainRun {
                length: length(&part.range),
                ..run
            }),
            Whereabouts::Nothing | Whereabouts::Lost => None,
        })
    }

    /// The last of them that must be read.
    pub(super) fn last(&self) -> Option<ChainRun> {
        self.runs().rfind(|run| !run.is_zero())
    }
}

/// A range with one answer to where it is.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) range: Range<u64>,
    pub(super) place: Whereabouts,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Whereabouts {
    Run(ChainRun),
    Nothing,
    Lost,
}

/// How a disk is walked along.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// The size of a window in bytes: a power of two, and no smaller than any cluster.
    pub(super) window: u64,
    /// Go on where tables are damaged.
    pub(super) keep_going: bool,
}

/// The jobs that make up what is wanted of a disk, in the order of the target and without gaps. Ends with the first
/// error.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    disk: &'a Chain,
    rules: Rules,
    reference: Option<&'a Reference<'a>>,
    /// The stretches that are wanted, and which of them is next.
    segments: &'a Segments,
    next: usize,
    /// The one that is walked along.
    stretch: Stretch,
    /// Where it goes on, and ends: at boundaries of clusters, if the disk reaches that far.
    at: u64,
    end: u64,
    in_order: Option<ChecksumsInOrder<'a>>,
    /// How long a job may be in bytes, if it takes no memory.
    longest: u64,
    /// The part that was looked up last.
    last: Option<Span>,
    is_over: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        disk: &'a Chain,
        segments: &'a Segments,
        rules: Rules,
        reference: Option<&'a Reference<'a>>,
    ) -> Self {
        Self {
            disk,
            rules,
            reference,
            segments,
            next: 0,
            stretch: Stretch::default(),
            at: 0,
            end: 0,
            in_order: None,
            longest: STRETCH.max((disk.len() / 4096).next_multiple_of(rules.window)),
            last: None,
            is_over: false,
        }
    }

    /// Goes on with the next stretch. Returns whether there is one.
    fn advance(&mut self) -> bool {
        let Some((at, range)) = self.segments.nth(self.next) else {
            return false;
        };
        let cluster = self.disk.grain();
        let start = range.start.minus(within(range.start, cluster));
        // Those of the checksums come in ascending order.
        if start < self.at || self.in_order.is_none() {
            self.in_order = match self.reference {
                Some(Reference::Table(checksums)) => Some(checksums.in_order()),
                Some(Reference::Guards(_)) | None => None,
            };
        }
        self.at = start;
        self.end = range.end.next_multiple_of(cluster).min(self.disk.len());
        self.stretch = Stretch { range, at };
        self.next.increase(1);
        true
    }

    fn job(&mut self) -> Result<Job> {
        let first = self.part_at(self.at)?;
        let Some(content) = content_of(first.place) else {
            return self.window();
        };
        let end = self.end_of_alike(&first)?;
        // The rest of the last window has something else in it.
        let end = if end == self.end {
            end
        } else {
            end.minus(end % self.rules.window)
        };
        if end <= self.at {
            return self.window();
        }
        Ok(self.of(self.at..end, content))
    }

    fn of(&self, range: Range<u64>, content: Task) -> Job {
        let wanted = self.stretch.clipped(&range);
        Job {
            range,
            wanted,
            content,
        }
    }

    /// Where the like of a part ends, or the first cluster that has a checksum begins: it should not be zeros.
    fn end_of_alike(&mut self, first: &Span) -> Result<u64> {
        let limit = self.end.min(self.at.plus(self.longest));
        let limit = limit.min(self.next_listed(first.place)?.unwrap_or(limit));
        let mut limit = limit.min(self.first_missed(first)?.unwrap_or(limit));
        let mut end = first.range.end;
        while end < limit {
            let next = self.part_at(end)?;
            if !is_alike(first.place, next.place) {
                break;
            }
            limit = limit.min(self.first_missed(&next)?.unwrap_or(limit));
            end = next.range.end;
        }
        Ok(end.min(limit))
    }

    /// Where images that lie one behind the other begin to have a checksum for a part that is zeros.
    fn first_missed(&self, part: &Span) -> Result<Option<u64>> {
        match (self.reference.and_then(Reference::guards), part.place) {
            (Some(guards), Whereabouts::Run(run)) => self.disk.first_missed(guards, run, &part.range),
            (Some(_) | None, Whereabouts::Run(_) | Whereabouts::Nothing | Whereabouts::Lost) => Ok(None),
        }
    }

    fn next_listed(&mut self, place: Whereabouts) -> Result<Option<u64>> {
        let (Some(checksums), Whereabouts::Run(_) | Whereabouts::Nothing) = (&mut self.in_order, place)
        else {
            return Ok(None);
        };
        let cluster_size = self.disk.own_cluster_size();
        let listed = checksums.next_listed(GuestCluster(self.at / cluster_size))?;
        Ok(listed.map(|cluster| cluster.0.times(cluster_size)))
    }

    fn window(&mut self) -> Result<Job> {
        let end = self.at.plus(1).next_multiple_of(self.rules.window).min(self.end);
        let mut parts: Vec<Span> = Vec::new();
        let mut at = self.at;
        while at < end {
            let Span { range, place } = self.part_at(at)?;
            let part = Span {
                range: range.start..range.end.min(end),
                place,
            };
            at = part.range.end;
            parts.push(part);
        }
        let expected = match &mut self.in_order {
            None => Vec::new(),
            Some(checksums) => {
                let cluster_size = self.disk.own_cluster_size();
                let first = self.at.checked_div(cluster_size).unwrap_or(0);
                checksums.of(GuestCluster(first)..GuestCluster(end.div_ceil(cluster_size)))?
            }
        };
        Ok(self.of(self.at..end, Task::Data(Window { parts, expected })))
    }

    /// What begins at `at`, in front of the end of the disk.
    fn part_at(&mut self, at: u64) -> Result<Span> {
        if let Some(last) = self.last.as_ref().filter(|last| last.range.contains(&at)) {
            return Ok(Span {
                range: at..last.range.end,
                place: behind(last.place, at.minus(last.range.start)),
            });
        }
        let part = match self.disk.place_at(GuestOffset(at), self.longest) {
            Ok(run) if run.length == 0 => {
                let (end, expected) = (at, self.disk.len());
                return Err(Corrupt::Shrank { end, expected }.into());
            }
            Ok(run) => Span {
                range: at..at.plus(run.length),
                place: match run.is_free {
                    Some(true) => Whereabouts::Nothing,
                    Some(false) | None => Whereabouts::Run(run),
                },
            },
            Err(error) if self.rules.keep_going => Span {
                range: at..self.end_of_lost(at, &error),
                place: Whereabouts::Lost,
            },
            Err(error) => return Err(error),
        };
        self.last = Some(part.clone());
        Ok(part)
    }

    /// Up to where the tables tell nothing.
    fn end_of_lost(&self, at: u64, error: &Error) -> u64 {
        let cluster_size = self.disk.grain();
        let unit = if matches!(
            error,
            Error::Io {
                action: Action::Read(_),
                ..
            }
        ) {
            let reach = self.disk.table_reach();
            reach
                .min(cluster_size.times(UNREADABLE_ENTRIES))
                .max(cluster_size)
        } else {
            cluster_size
        };
        let lost = error
            .lost()
            .filter(|lost| lost.contains(&at))
            .map(|lost| lost.end);
        let boundary = at.minus(at % unit).plus(unit);
        lost.unwrap_or(boundary).min(self.disk.len())
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Job>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.at >= self.end {
            if !self.advance() {
                return None;
            }
        }
        if self.is_over {
            return None;
        }
        let job = self.job();
        match &job {
            Ok(job) => self.at = job.range.end,
            Err(_) => self.is_over = true,
        }
        Some(job)
    }
}

/// What is the same for any length of it; none for data.
fn content_of(place: Whereabouts) -> Option<Task> {
    match place {
        Whereabouts::Run(run) if run.is_zero() => Some(Task::Zeros),
        Whereabouts::Run(_) => None,
        Whereabouts::Nothing => Some(Task::Nothing),
        Whereabouts::Lost => Some(Task::Lost),
    }
}

fn is_alike(first: Whereabouts, next: Whereabouts) -> bool {
    match (content_of(first), content_of(next)) {
        (Some(Task::Zeros), Some(Task::Zeros))
        | (Some(Task::Nothing), Some(Task::Nothing))
        | (Some(Task::Lost), Some(Task::Lost)) => true,
        (Some(_) | None, Some(_) | None) => false,
    }
}

/// What follows so many bytes behind.
pub(super) fn behind(place: Whereabouts, skipped: u64) -> Whereabouts {
    match place {
        Whereabouts::Run(run) => Whereabouts::Run(run.behind(skipped)),
        Whereabouts::Nothing | Whereabouts::Lost => place,
    }
}
