//! What is wrong with an image, range by range.

use std::ops::Range;
use std::sync::Arc;

use crate::check;
use crate::error::Error;
use crate::formats::Remark;
use crate::units::{Exact, HostOffset, length};

/// How many findings are listed; the others are counted.
const MAX_LISTED: usize = 1000;

/// What is wrong.
#[derive(Debug)]
pub enum Fault {
    /// A cluster does not have its checksum.
    Checksum {
        /// Of what is there.
        found: u32,
        /// That was stored.
        expected: u32,
        /// Where the cluster, or the first part of it, is; nowhere if it reads as zeros.
        at: Option<HostOffset>,
    },
    /// A cluster that has no checksum is not zeros.
    NotZeros {
        /// Where the cluster, or the first part of it, is.
        at: Option<HostOffset>,
    },
    /// The CRC-32 of a cluster is right, but its digest is not, which begins here in the image.
    Digest {
        /// Where.
        at: Option<HostOffset>,
    },
    /// A table or a stream is damaged.
    Damage(Error),
    /// The checksum table is damaged, or was overwritten.
    Table(Error),
    /// The header does not tell where the checksum table is, but there is one: here, if it can be found.
    TableLost(Option<HostOffset>),
    /// Tables do not fit each other.
    Metadata(check::Finding),
    /// The image says that it may be wrong, although no program has written to it since it was made.
    Remark(Remark),
    /// The system cannot read it.
    Unreadable(Error),
}

/// A fault, and all of its kind that follow one another.
#[derive(Debug)]
pub struct Finding {
    /// What is wrong with the first of them.
    pub fault: Fault,
    /// The bytes of the disk that are concerned, if it can be told.
    pub range: Option<Range<u64>>,
    /// How many clusters that are.
    pub clusters: u64,
    /// How many there are.
    pub places: u64,
    /// The name of the snapshot that is concerned; none for the active state.
    pub snapshot: Option<Arc<str>>,
}

/// All that is wrong: exact in number, listed as far as there is room.
#[derive(Debug)]
pub struct Findings {
    cluster_size: u64,
    listed: Vec<Finding>,
    /// The last finding, once the list is full.
    last: Option<Finding>,
    unlisted: u64,
    totals: Totals,
}

/// How many of what there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Clusters that differ from what their checksums say.
    pub mismatched: u64,
    /// Clusters that are lost because a table or a stream is damaged.
    pub damaged: u64,
    /// Clusters that the system cannot read.
    pub unreadable: u64,
    /// Damaged structures of which no cluster is lost.
    pub structures: u64,
}

/// A fault of a range.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) fault: Fault,
    pub(super) range: Range<u64>,
}

impl Fault {
    /// Of an error that was met while reading.
    pub(super) fn of(error: Error) -> Self {
        if matches!(error.innermost().0, Error::Io { .. }) {
            Self::Unreadable(error)
        } else {
            Self::Damage(error)
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        matches!(
            (self, other),
            (Self::Checksum { .. }, Self::Checksum { .. })
                | (Self::Digest { .. }, Self::Digest { .. })
                | (Self::NotZeros { .. }, Self::NotZeros { .. })
                | (Self::Damage(_), Self::Damage(_))
                | (Self::Unreadable(_), Self::Unreadable(_))
        )
    }

    /// Whether it is one and the same, met twice.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Damage(a), Self::Damage(b)) => a.to_string() == b.to_string(),
            _ => false,
        }
    }
}

impl Findings {
    pub(super) fn new(cluster_size: u64) -> Self {
        Self {
            cluster_size,
            listed: Vec::new(),
            last: None,
            unlisted: 0,
            totals: Totals::default(),
        }
    }

    /// Those that are listed, in the order of the disk; then those of the snapshots.
    pub fn listed(&self) -> &[Finding] {
        &self.listed
    }

    /// How many are not.
    pub fn unlisted(&self) -> u64 {
        self.unlisted
    }

    /// How many of what there are.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Whether all that was found is that the system cannot read.
    pub fn is_unreadable_only(&self) -> bool {
        let Totals {
            mismatched,
            damaged,
            structures,
            unreadable: _,
        } = self.totals;
        !self.is_empty() && (mismatched, damaged, structures) == (0, 0, 0)
    }

    pub(super) fn add_table(&mut self, error: Error) {
        self.add_structure(Fault::Table(error), None);
    }

    /// Whether the checksum table is among the findings.
    pub(super) fn has_table(&self) -> bool {
        self.listed
            .iter()
            .any(|finding| matches!(finding.fault, Fault::Table(_)))
    }

    /// Whether a range of the disk, if it is one, is listed as lost to damage.
    pub(super) fn has_met(&self, guest: Option<Range<u64>>) -> bool {
        guest.is_some_and(|guest| {
            self.listed.iter().any(|finding| {
                let range = finding.range.as_ref();
                let touches = range.is_some_and(|range| guest.start < range.end && range.start < guest.end);
                touches && matches!(finding.fault, Fault::Damage(_))
            })
        })
    }

    /// Adds damage of which nobody can tell what of the disk it concerns.
    pub(super) fn add_structure(&mut self, fault: Fault, snapshot: Option<Arc<str>>) {
        // That of a table.
        let is_unreadable = matches!(fault, Fault::Unreadable(_));
        let total = if is_unreadable {
            &mut self.totals.unreadable
        } else {
            &mut self.totals.structures
        };
        total.increase(1);
        self.push(Finding {
            fault,
            range: None,
            clusters: 0,
            places: 1,
            snapshot,
        });
    }

    /// Counts damaged structures that are not told one by one.
    pub(super) fn add_unlisted_structures(&mut self, count: u64) {
        self.totals.structures.increase(count);
        self.unlisted.increase(count);
    }

    /// Adds the fault of a range that begins behind the last one.
    pub(super) fn add(&mut self, found: Found, snapshot: Option<&Arc<str>>) {
        let Found { fault, range } = found;
        let clusters = length(&range).div_ceil(self.cluster_size);
        let total = match fault {
            Fault::Checksum { .. } | Fault::Digest { .. } | Fault::NotZeros { .. } => {
                &mut self.totals.mismatched
            }
            Fault::Damage(_)
            | Fault::Table(_)
            | Fault::TableLost(_)
            | Fault::Metadata(_)
            | Fault::Remark(_) => &mut self.totals.damaged,
            Fault::Unreadable(_) => &mut self.totals.unreadable,
        };
        total.increase(clusters);
        let last = self.last.as_mut().or(self.listed.last_mut());
        if let Some(last) = last
            && last.snapshot.as_ref() == snapshot
            && last.fault.is_like(&fault)
            && let Some(before) = &mut last.range
            && before.end == range.start
        {
            before.end = range.end;
            last.clusters.increase(clusters);
            last.places.increase(u64::from(!last.fault.is(&fault)));
            return;
        }
        self.push(Finding {
            fault,
            range: Some(range),
            clusters,
            places: 1,
            snapshot: snapshot.cloned(),
        });
    }

    fn push(&mut self, finding: Finding) {
        if self.listed.len() < MAX_LISTED {
            self.listed.push(finding);
        } else {
            self.unlisted.increase(1);
            self.last = Some(finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Corrupt, StreamFault};

    fn differs(start: u64, end: u64) -> Found {
        let fault = Fault::NotZeros { at: None };
        Found {
            fault,
            range: start..end,
        }
    }

    #[test]
    fn clusters_side_by_side_are_one_finding() {
        let mut findings = Findings::new(512);
        for start in [0, 512, 1024, 2048] {
            findings.add(differs(start, start + 512), None);
        }
        let ranges: Vec<_> = findings
            .listed()
            .iter()
            .map(|found| found.range.clone())
            .collect();
        assert_eq!(ranges, [Some(0..1536), Some(2048..2560)]);
        assert_eq!(findings.totals().mismatched, 4);
    }

    #[test]
    fn damage_that_is_met_twice_counts_once() {
        let damage = |start, end| Found {
            fault: Fault::Damage(
                Corrupt::Stream {
                    at: HostOffset(77),
                    fault: StreamFault::Damaged,
                    lost: (0..2048).into(),
                }
                .into(),
            ),
            range: start..end,
        };
        let mut findings = Findings::new(512);
        findings.add(damage(0, 1024), None);
        findings.add(damage(1024, 2048), None);
        let found = findings.listed().first().unwrap();
        assert_eq!((found.places, found.clusters), (1, 4));
    }

    #[test]
    fn there_is_an_end_to_the_list_but_not_to_the_count() {
        let mut findings = Findings::new(512);
        for number in 0..5000 {
            findings.add(differs(number * 1024, number * 1024 + 512), None);
        }
        assert_eq!(findings.listed().len(), MAX_LISTED);
        assert_eq!((findings.unlisted(), findings.totals().mismatched), (4000, 5000));
    }
}
