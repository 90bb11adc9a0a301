//! An image that comes through a pipe, while its disk is restored.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;

use super::options::Options;
use super::walk::{Job, Task};
use crate::error::{Action, Corrupt, Error, Result, Unstreamable};
use crate::formats::{Chain, ChainRun, Opening, PipedImage};
use crate::output::{scratch_of_stream, was_closed};
use crate::units::{Exact, claimed_end};
use crate::volumes::Wanted;

/// The name of standard input, if it is a file.
pub(super) const STDIN: &str = "/dev/stdin";

/// Whether standard input is a file or a block device from its beginning on, which can be read like any other.
pub(super) fn is_file() -> bool {
    let Ok(stdin) = io::stdin().as_fd().try_clone_to_owned() else {
        return false;
    };
    let stdin = File::from(stdin);
    let kind = stdin.metadata().map(|metadata| metadata.file_type());
    kind.is_ok_and(|kind| kind.is_file() || kind.is_block_device())
        && rustix::fs::tell(&stdin).is_ok_and(|position| position == 0)
}

/// An image that comes through a pipe, of which the tables were read.
#[derive(Debug)]
pub(super) struct Piped {
    image: PipedImage,
}

impl Piped {
    /// Begins to read standard input.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if that is closed or a terminal, or more is asked for than a pipe can give.
    /// - Those of [`PipedImage::begin`].
    pub(super) fn begin(options: &Options, opening: &Opening) -> Result<(Self, Chain)> {
        refuse(options)?;
        let failed = |error: io::Error| Error::source_io(Action::Open, error);
        let stream = File::from(io::stdin().as_fd().try_clone_to_owned().map_err(failed)?);
        if was_closed(&stream).map_err(failed)? {
            return Err(Unstreamable::Closed.into());
        }
        if io::IsTerminal::is_terminal(&stream) {
            return Err(Unstreamable::Terminal.into());
        }
        let kept = scratch_of_stream("standard input", &options.cleanup)?;
        let (image, disk) = PipedImage::begin(stream, kept, opening)?;
        Ok((Self { image }, disk))
    }

    /// Reads what a job takes of the stream. Must be called in the order of the disk.
    pub(super) fn load(&self, job: &Job) -> Result<()> {
        let Task::Data(window) = &job.content else {
            return Ok(());
        };
        window.runs().try_for_each(|run| self.image.load(run))
    }

    /// Forgets all of it up to the end of a run.
    pub(super) fn release(&self, run: ChainRun) {
        self.image.release(run);
    }

    /// Reads it to its end.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if it was cut off, or what lies at its end is damaged.
    /// - [`Error::Io`] if it cannot be read.
    pub(super) fn finish(&self, disk: &Chain) -> Result<Chain> {
        let disk = self.image.finish(disk)?;
        let Some(image) = disk.image().filter(|image| !image.is_outdated()) else {
            return Ok(disk);
        };
        let end = image.file().length();
        let checksums = image.checksums().map_err(|error| disk.doubting(error))?;
        let record = image.record().map_err(|error| as_ended(error, end))?;
        let cut_off = match (checksums.and_then(|checksums| checksums.cut_off()), record) {
            (None, Some(record)) => record.cut_off(image)?,
            (cut_off, _) => cut_off,
        };
        match cut_off {
            Some(error) => Err(as_ended(error, end)),
            None => Ok(disk),
        }
    }
}

/// That a structure is not whole because the stream of `end` bytes was cut off, if so.
fn as_ended(error: Error, end: u64) -> Error {
    let expected = match &error {
        Error::Corrupt(Corrupt::Truncated { at, expected, .. }) => claimed_end(at.0, *expected),
        Error::Corrupt(Corrupt::CutOff { .. }) => end.plus(1),
        Error::Corrupt(_)
        | Error::Io { .. }
        | Error::Unsupported(_)
        | Error::Invalid(_)
        | Error::ReadBack(_)
        | Error::Elsewhere { .. } => return error,
    };
    Corrupt::Ended { end, expected }.into()
}

/// Refuses what takes more than one pass, or what lies at the end.
fn refuse(options: &Options) -> Result<(), Unstreamable> {
    let asked = [
        (options.used_only, "--used-only"),
        (options.keep_going, "--keep-going"),
        (options.fit, "--fit"),
        (options.new_ids, "--new-ids"),
        (matches!(options.wanted, Wanted::Volume(_)), "--part"),
        (options.access.snapshot.is_some(), "--snapshot"),
    ];
    match asked.into_iter().find(|(is_asked, _)| *is_asked) {
        Some((_, option)) => Err(Unstreamable::Asked(option)),
        None => Ok(()),
    }
}
