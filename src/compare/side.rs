//! One of two disks that are compared, or a part of it: a raw file, a block device or an image.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::used::Used;
use super::{Options, Said, Warning};
use crate::disk::{Disk, Empty, Force, Open, Part, Underlying};
use crate::error::{Error, InUse, Invalid, Result};
use crate::formats::{self, Opening, TakenFor};
use crate::units::{to_u64, to_usize};
use crate::volumes::{Selection, Volume};

/// One of the two disks.
#[derive(Debug)]
pub(super) struct Side {
    path: PathBuf,
    disk: Part<Used>,
    /// The volume that was asked for by its name.
    volume: Option<Volume>,
    /// It is not the one whose name need not be told.
    is_second: bool,
}

impl Side {
    /// Opens the disk.
    pub(super) fn open(path: &Path, said: &Said, options: &Options) -> Result<Self> {
        let disk = formats::open(
            path,
            &Opening {
                format: said.format,
                taken_for: TakenFor::WhatItLooksLike,
                access: said.access.clone(),
                open: Open {
                    force: Force::if_asked(options.force),
                    is_for_a_look: false,
                    // Nothing equals zeros.
                    empty: Empty::OnlyFiles,
                },
                ..Opening::default()
            },
        )?;
        disk.settle()?;
        let Selection { segments, volume, .. } = said.wanted.find(&disk)?;
        let disk = if options.used {
            Used::of(disk)?
        } else {
            Used::all(disk)
        };
        Ok(Self {
            path: path.to_owned(),
            disk: Part::new(disk, segments),
            volume,
            is_second: false,
        })
    }

    /// The same as the second of the two: its errors name it.
    pub(super) fn second(self) -> Self {
        let is_second = true;
        Self { is_second, ..self }
    }

    /// The volume that was asked for by its name.
    pub(super) fn volume(&self) -> Option<&Volume> {
        self.volume.as_ref()
    }

    /// The size of what is compared of it, in bytes.
    pub(super) fn size(&self) -> u64 {
        self.disk.len()
    }

    /// What reading is best aligned to, in bytes: a power of two.
    pub(super) fn grain(&self) -> u64 {
        self.disk.grain()
    }

    /// As [`Disk::next_data`].
    pub(super) fn next_data(&self, from: u64) -> Result<Option<Range<u64>>> {
        self.disk.next_data(from).map_err(|error| self.named(error))
    }

    /// Fills `buf` with the bytes from `at` on; behind the end of the disk, and where it is free, they are zeros.
    pub(super) fn read(&self, buf: &mut [u8], at: u64) -> Result<()> {
        let there = to_usize(self.size().saturating_sub(at).min(to_u64(buf.len())));
        let (bytes, behind) = buf.split_at_mut(there);
        behind.fill(0);
        self.disk.read_at(bytes, at).map_err(|error| self.named(error))
    }

    /// What is to be known of it before it is read.
    pub(super) fn warnings(&self) -> impl Iterator<Item = Warning> {
        let in_use = self.disk.in_use().map(|(path, in_use)| Warning::InUse {
            path: path.to_owned(),
            in_use: in_use.clone(),
        });
        let remarks = self
            .disk
            .whole()
            .disk()
            .remarks()
            .map(|(path, remark)| Warning::Remark {
                path: path.to_owned(),
                remark,
            });
        let unwritten = self.disk.unwritten().map(|unwritten| Warning::Unwritten {
            path: self.path.clone(),
            unwritten: unwritten.clone(),
        });
        in_use.into_iter().chain(unwritten).chain(remarks)
    }

    /// That it changed since it was opened.
    pub(super) fn change(&self) -> Result<Option<Warning>> {
        let changed = |(path, change): (&Path, _)| Warning::Changed {
            path: path.to_owned(),
            change,
        };
        let change = self.disk.change().map_err(|error| self.named(error))?;
        Ok(change.map(changed))
    }

    /// Whether something is held so that nobody else uses it meanwhile.
    pub(super) fn is_claimed(&self) -> bool {
        self.disk.stands_on().into_iter().any(Underlying::is_claimed)
    }

    /// Ends that.
    pub(super) fn release(&self) {
        self.disk.stands_on().into_iter().for_each(Underlying::release);
    }

    fn named(&self, error: Error) -> Error {
        if self.is_second {
            error.elsewhere(&self.path)
        } else {
            error
        }
    }
}

/// Whether somebody has it exclusively, which may be the other side.
pub(super) fn is_busy(opened: &Result<Side>) -> bool {
    match opened {
        Ok(side) => matches!(side.disk.writer(), Some(InUse::Busy { .. })),
        Err(error) => matches!(
            error.innermost().0,
            Error::Invalid(Invalid::SourceInUse(InUse::Busy { .. }))
        ),
    }
}
