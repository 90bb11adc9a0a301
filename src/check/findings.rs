//! What is found.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use super::catalogue::Code;
use crate::error::{Corrupt, Lost};
use crate::formats::Trace;
use crate::units::{Exact, HostOffset, claimed_end, claimed_size};

/// How many findings of a code are told; all are counted.
pub const TOLD: u64 = 1000;

/// Something that is not as it should be.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What sort of thing it is.
    pub code: Code,
    /// How many times, side by side.
    pub count: u64,
    /// What was found where, and what was expected.
    pub fault: Fault,
}

/// What was found where, and what was expected.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A contradiction in one place.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// A refcount that does not fit the number of references.
    #[error(
        "{}: refcount is {stored}, expected {references}",
        Clusters(*at, *clusters, *cluster_size)
    )]
    Refcount {
        /// The first cluster.
        at: HostOffset,
        /// How many there are, side by side.
        clusters: u64,
        /// In bytes.
        cluster_size: u64,
        /// What the refcount is.
        stored: u64,
        /// How often the cluster is used.
        references: u64,
    },
    /// Clusters that nothing uses, where there are no refcounts.
    #[error("{}: nothing uses {}", Clusters(*at, *clusters, *cluster_size), if *clusters == 1 { "it" } else { "them" })]
    Unused {
        /// The first cluster.
        at: HostOffset,
        /// How many there are, side by side.
        clusters: u64,
        /// In bytes.
        cluster_size: u64,
    },
    /// More references than a refcount can be large.
    #[error("cluster at {:#x}: is used more than {largest} times, the most that its refcount can count", at.0)]
    Overflow {
        /// The cluster.
        at: HostOffset,
        /// The largest refcount.
        largest: u64,
    },
    /// A COPIED bit that does not fit the refcount.
    #[error(
        "{table} at {:#x}: entry {index} is {entry:#x}, COPIED is {}, but the refcount is {stored}{lost}",
        at.0, if *is_copied { "set" } else { "clear" }
    )]
    Copied {
        /// The table that holds the entry.
        table: &'static str,
        /// Where it begins.
        at: HostOffset,
        /// Number of the entry.
        index: u64,
        /// Its value.
        entry: u64,
        /// Whether COPIED is set.
        is_copied: bool,
        /// What the refcount is.
        stored: u64,
        /// What the entry is for.
        lost: Lost,
    },
    /// Two structures in one place.
    #[error("{what} at {:#x} overlaps {other}", at.0)]
    Overlap {
        /// The one of them.
        what: What,
        /// Where it begins.
        at: HostOffset,
        /// The other.
        other: What,
    },
    /// A field of a snapshot.
    #[error("snapshot {number}: {fault}")]
    Snapshot {
        /// Counted from 1, in the order of the table.
        number: u64,
        /// What is wrong with it.
        fault: Corrupt,
    },
    /// A field of a bitmap.
    #[error("bitmap {number}: {fault}")]
    Bitmap {
        /// Counted from 1, in the order of the directory.
        number: u64,
        /// What is wrong with it.
        fault: Corrupt,
    },
    /// What shows that a program changed the image.
    #[error(transparent)]
    Trace(#[from] Trace),
    /// Something that needs no more words.
    #[error("{0}")]
    That(&'static str),
}

/// A structure that lies in the image, of which there may be several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct What {
    /// What it is.
    pub name: &'static str,
    /// Which of them, counted from 1; 0 if there is only one.
    pub number: u64,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, number } = self;
        match number {
            0 => write!(f, "the {name}"),
            number => write!(f, "the {name} {number}"),
        }
    }
}

/// Clusters side by side.
struct Clusters(HostOffset, u64, u64);

impl fmt::Display for Clusters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(HostOffset(at), clusters, size) = self;
        let end = claimed_end(*at, claimed_size(*clusters, *size));
        match clusters {
            1 => write!(f, "cluster at {at:#x}"),
            _ => write!(f, "{clusters} clusters at {at:#x} to {end:#x}"),
        }
    }
}

impl Finding {
    pub(super) fn new(code: Code, fault: impl Into<Fault>) -> Self {
        let (count, fault) = (1, fault.into());
        Self { code, count, fault }
    }

    /// Where in the image it was found.
    pub fn at(&self) -> Option<HostOffset> {
        match &self.fault {
            Fault::Corrupt(fault) | Fault::Snapshot { fault, .. } | Fault::Bitmap { fault, .. } => fault.at(),
            Fault::Refcount { at, .. }
            | Fault::Unused { at, .. }
            | Fault::Overflow { at, .. }
            | Fault::Copied { at, .. }
            | Fault::Overlap { at, .. } => Some(*at),
            Fault::Trace(_) | Fault::That(_) => None,
        }
    }

    /// The range of the disk that it is about, in bytes, if it is about one.
    pub fn guest(&self) -> Option<Range<u64>> {
        match &self.fault {
            Fault::Corrupt(fault) => fault.lost(),
            Fault::Copied { lost, .. } => lost.0.clone(),
            Fault::Refcount { .. }
            | Fault::Unused { .. }
            | Fault::Overflow { .. }
            | Fault::Overlap { .. }
            | Fault::Snapshot { .. }
            | Fault::Bitmap { .. }
            | Fault::Trace(_)
            | Fault::That(_) => None,
        }
    }
}

/// Findings of which only the first of each code are kept.
#[derive(Debug, Default)]
pub(super) struct Findings {
    kept: Vec<Finding>,
    tallies: BTreeMap<Code, Tally>,
}

/// How much there was of a code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Findings.
    pub findings: u64,
    /// What they count.
    pub count: u64,
}

impl Findings {
    pub(super) fn add(&mut self, finding: Finding) {
        let tally = self.tallies.entry(finding.code).or_default();
        tally.findings.increase(1);
        tally.count.increase(finding.count);
        if tally.findings <= TOLD {
            self.kept.push(finding);
        }
    }
}

/// Passes on what is found, as long as it is not too much.
pub(super) struct Log<'a> {
    tell: &'a mut dyn FnMut(&Finding),
    tallies: BTreeMap<Code, Tally>,
}

impl<'a> Log<'a> {
    pub(super) fn new(tell: &'a mut dyn FnMut(&Finding)) -> Self {
        let tallies = BTreeMap::new();
        Self { tell, tallies }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        let mut findings = Findings::default();
        findings.add(finding);
        self.add_all(findings);
    }

    /// What was found by another thread.
    pub(super) fn add_all(&mut self, findings: Findings) {
        let before = self.tallies.clone();
        let mut told: BTreeMap<Code, u64> = BTreeMap::new();
        for finding in findings.kept {
            let told = told.entry(finding.code).or_default();
            let already = before.get(&finding.code).map_or(0, |tally| tally.findings);
            if already.plus(*told) < TOLD {
                (self.tell)(&finding);
            }
            told.increase(1);
        }
        for (code, more) in findings.tallies {
            let tally = self.tallies.entry(code).or_default();
            tally.findings.increase(more.findings);
            tally.count.increase(more.count);
        }
    }

    pub(super) fn into_tallies(self) -> BTreeMap<Code, Tally> {
        self.tallies
    }
}
