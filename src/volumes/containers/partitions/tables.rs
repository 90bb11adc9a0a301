//! What partition tables say of themselves: whether both copies of a GPT are good, and which size of sectors they count
//! in. No filesystem is looked into.

use super::gpt::{self, Copies, Gpt, PRIMARY, Refused};
use super::holds_anything;
use super::mbr::RawMbr;
use super::sectors::SIZES;
use crate::units::{Exact, claimed_end, claimed_size};
use crate::volumes::doubt::Doubt;
use crate::volumes::scheme::Recognise;
use crate::volumes::view::View;

/// What the partition tables of a disk say of themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Whether there are any.
    pub is_partitioned: bool,
    /// The size of the sectors that they count in, in bytes; none if it cannot be told.
    pub sector_size: Option<u64>,
    /// What is wrong with them although they can be used, or what else is known of tables that cannot.
    pub flaws: Vec<Flaw>,
}

/// One of the two copies of a GPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Which {
    /// That behind the MBR.
    #[error("primary")]
    Primary,
    /// That at the end of the disk.
    #[error("backup")]
    Backup,
}

/// What is wrong with a GPT. Offsets are those of headers in the underlying file or device, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// One copy is damaged, and the other is good.
    #[error(
        "the {which} GPT at {at:#x} is damaged ({why}), the other one at {good:#x} is good: sgdisk -e repairs that"
    )]
    Damaged {
        /// The one that is damaged.
        which: Which,
        /// Where it is.
        at: u64,
        /// In which way.
        why: String,
        /// Where the good one is.
        good: u64,
    },
    /// The primary is damaged, and the backup is good, but not in the last sector: no program finds it there.
    #[error(
        "the primary GPT at {at:#x} is damaged ({why}), and the backup at {good:#x} is good but not at the end of the \
         disk, so that no program finds it, and sgdisk -e would make the table empty: first repair it with sgdisk -e \
         on a loop device (losetup --sizelimit {size})"
    )]
    Stray {
        /// Where the primary is.
        at: u64,
        /// What is wrong with it.
        why: String,
        /// Where the backup is.
        good: u64,
        /// The size of the disk that has the backup at its end, in bytes.
        size: u64,
    },
    /// Both copies are damaged.
    #[error(
        "the primary GPT at {at:#x} is damaged ({why}), and so is the backup at {backup:#x} ({backup_why})"
    )]
    Lost {
        /// Where the primary is.
        at: u64,
        /// What is wrong with it.
        why: String,
        /// Where the backup is, or should be.
        backup: u64,
        /// What is wrong with that.
        backup_why: String,
    },
    /// Both are as they were written, but not the same.
    #[error(
        "the primary GPT at {at:#x} and the one at {backup:#x} are not the same: sgdisk -e makes both like the primary"
    )]
    Differ {
        /// Where the primary is.
        at: u64,
        /// Where the other one is.
        backup: u64,
    },
    /// The disk is larger than its GPT says.
    #[error(
        "the disk has {size} bytes, its GPT is made for {expected}: the backup GPT, at {backup:#x}, is not at the end, \
         where programs look for it (sgdisk -e moves it)"
    )]
    Grown {
        /// The size of the disk in bytes.
        size: u64,
        /// The size that the GPT is made for.
        expected: u64,
        /// Where the backup is.
        backup: u64,
    },
    /// The disk is smaller than its GPT says.
    #[error(
        "the disk was larger when its table was made, {expected} bytes, and has {size}: cut off? What lay behind the \
         end is missing, the backup GPT too (if all partitions end before that, sgdisk -e makes a new one)"
    )]
    CutOff {
        /// The size of the disk in bytes.
        size: u64,
        /// The size that the GPT is made for.
        expected: u64,
    },
}

impl Flaw {
    /// The word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => "damaged",
            Self::Stray { .. } => "stray",
            Self::Lost { .. } => "lost",
            Self::Differ { .. } => "differ",
            Self::Grown { .. } => "grown",
            Self::CutOff { .. } => "cut-off",
        }
    }

    /// Where the copy is that something is wrong with, or should be.
    pub fn offset(&self) -> u64 {
        match self {
            Self::Damaged { at, .. } | Self::Stray { at, .. } | Self::Lost { at, .. } => *at,
            Self::Differ { backup, .. } | Self::Grown { backup, .. } => *backup,
            Self::CutOff { size, .. } => *size,
        }
    }

    /// What it is once the disk, which has `size` bytes, is at the beginning of a larger one.
    #[must_use]
    pub fn on_a_larger_disk(self, size: u64) -> Self {
        match self {
            Self::Damaged {
                which: Which::Primary,
                at,
                why,
                good,
            } => Self::Stray { at, why, good, size },
            Self::Damaged { .. }
            | Self::Stray { .. }
            | Self::Lost { .. }
            | Self::Differ { .. }
            | Self::Grown { .. }
            | Self::CutOff { .. } => self,
        }
    }
}

/// What the tables of a disk say of themselves.
pub(in crate::volumes) fn tables(view: View<'_>, recognise: Recognise) -> Tables {
    match RawMbr::read(view, "MBR", 0) {
        Ok(Some(mbr)) if mbr.is_protective() => of_gpt(view, &mbr),
        Ok(Some(mbr)) if mbr.is_table() => Tables {
            is_partitioned: true,
            sector_size: view.sector_size().or_else(|| counted_in(view, &mbr, recognise)),
            flaws: Vec::new(),
        },
        Ok(_) | Err(_) => Tables {
            sector_size: view.sector_size(),
            ..Tables::default()
        },
    }
}

/// The one size of sectors with which anything is recognised in the partitions of an MBR.
fn counted_in(view: View<'_>, mbr: &RawMbr, recognise: Recognise) -> Option<u64> {
    let is_it = |size: &u64| {
        let table = mbr.table(view, *size);
        table.is_ok_and(|table| matches!(holds_anything(view, &table.parts, recognise), Ok(true)))
    };
    let mut sizes = SIZES.into_iter().filter(is_it);
    sizes.next().filter(|_| sizes.next().is_none())
}

fn of_gpt(view: View<'_>, mbr: &RawMbr) -> Tables {
    let device = view.sector_size();
    let sizes = device.map_or(SIZES.to_vec(), |size| vec![size]);
    let found: Vec<_> = sizes.into_iter().map(|size| Found::of(view, mbr, size)).collect();
    let of_rank = |rank| {
        let mut those = found.iter().filter(move |found| found.rank() == rank);
        those.next().map(|first| (first, those.next().is_none()))
    };
    let best = [Rank::Good, Rank::Bad].into_iter().find_map(of_rank);
    // With tables for two sizes it cannot be told which is the right one.
    let best = best.filter(|(_, is_alone)| *is_alone).map(|(found, _)| found);
    Tables {
        is_partitioned: true,
        sector_size: device.or_else(|| best.map(|found| found.sector_size)),
        flaws: best.map_or_else(Vec::new, |found| found.flaws(view)),
    }
}

/// What there is of a GPT for sectors of one size.
#[derive(Debug)]
struct Found {
    sector_size: u64,
    copies: Copies,
    /// A backup where the disk ended when the MBR was written, if both copies are missing in their places.
    stray: Option<(u64, Gpt)>,
}

/// How much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    /// A table that can be used.
    Good,
    /// What is left of one.
    Bad,
    None,
}

impl Found {
    fn of(view: View<'_>, mbr: &RawMbr, sector_size: u64) -> Self {
        let copies = Copies::of(view, sector_size);
        let last = mbr.last_sector().filter(|last| *last < copies.last);
        let is_lost = copies.primary.is_err() && copies.backup.is_err();
        let stray = last.filter(|_| is_lost).and_then(|last| {
            let gpt = Gpt::at(view, last, sector_size).ok();
            gpt.filter(|gpt| gpt.alternate_lba == PRIMARY)
                .map(|gpt| (last, gpt))
        });
        Self {
            sector_size,
            copies,
            stray,
        }
    }

    fn rank(&self) -> Rank {
        let is_good = |copy: &Result<Gpt, Refused>| matches!(copy, Ok(_) | Err(Refused::Odd(_)));
        let is_missing = |copy: &Result<Gpt, Refused>| matches!(copy, Err(Refused::Missing));
        let Copies { primary, backup, .. } = &self.copies;
        if self.stray.is_some() || is_good(primary) || is_good(backup) {
            Rank::Good
        } else if is_missing(primary) && is_missing(backup) {
            Rank::None
        } else {
            Rank::Bad
        }
    }

    fn flaws(&self, view: View<'_>) -> Vec<Flaw> {
        let place = |lba: u64| view.position(claimed_size(lba, self.sector_size));
        let (at, backup_at) = (place(PRIMARY), place(self.copies.backup_lba));
        let expected = gpt::size_of_disk(view, self.sector_size);
        if let Some(expected) = expected.filter(|expected| *expected > view.len()) {
            let size = view.len();
            return vec![Flaw::CutOff { size, expected }];
        }
        let flaw = match (&self.copies.primary, &self.copies.backup) {
            (Ok(primary), Ok(backup)) => (primary.identity != backup.identity).then_some(Flaw::Differ {
                at,
                backup: backup_at,
            }),
            (Err(Refused::Odd(_)), _) | (_, Err(Refused::Odd(_))) => None,
            (Ok(_), Err(refused)) => Some(Flaw::Damaged {
                which: Which::Backup,
                at: backup_at,
                why: why(refused),
                good: at,
            }),
            (Err(refused), Ok(_)) => Some(Flaw::Damaged {
                which: Which::Primary,
                at,
                why: why(refused),
                good: backup_at,
            }),
            (Err(primary), Err(backup)) => Some(match &self.stray {
                Some((lba, _)) => Flaw::Stray {
                    at,
                    why: why(primary),
                    good: place(*lba),
                    size: lba.plus(1).times(self.sector_size),
                },
                None => Flaw::Lost {
                    at,
                    why: why(primary),
                    backup: backup_at,
                    backup_why: why(backup),
                },
            }),
        };
        flaw.into_iter().chain(self.grown(view)).collect()
    }

    /// Whether the primary does not know of the last sector, and what is there instead of the backup.
    fn grown(&self, view: View<'_>) -> Option<Flaw> {
        let Copies {
            primary,
            backup_lba,
            last,
            ..
        } = &self.copies;
        let primary = primary.as_ref().ok().filter(|_| backup_lba != last)?;
        let place = |lba: u64| view.position(claimed_size(lba, self.sector_size));
        match Gpt::at(view, *last, self.sector_size) {
            Ok(other) if other.identity == primary.identity => None,
            Ok(_) => Some(Flaw::Differ {
                at: place(PRIMARY),
                backup: place(*last),
            }),
            Err(_) => Some(Flaw::Grown {
                size: view.len(),
                expected: claimed_size(claimed_end(*backup_lba, 1), self.sector_size),
                backup: place(*backup_lba),
            }),
        }
    }
}

fn why(refused: &Refused) -> String {
    match refused {
        Refused::Missing => "there is no GPT header".to_owned(),
        Refused::Damaged(doubt) | Refused::Unreadable(doubt) | Refused::Odd(doubt) => Doubt::to_string(doubt),
    }
}
