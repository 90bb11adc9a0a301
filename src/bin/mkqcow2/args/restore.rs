//! `mkqcow2 restore IMAGE TARGET`.

use std::path::PathBuf;

use clap::Parser;

use super::shared::{Access, Bytes, ImageFormat, Json, Shown, Workers, is_dash};
use mkqcow2::output::Cleanup;
use mkqcow2::restore::{ImageAt, Options};

/// The end of the help.
pub(crate) const AFTER_HELP: &str = "\
Exit status: 0 done; 1 failed; 3 done, with a warning that matters; 64 usage.
Manual: man 8 mkqcow2-restore";

/// Write the disk in an image to a file, a block device or standard output
#[derive(Debug, Parser)]
#[command(
    name = "mkqcow2 restore",
    override_usage = "mkqcow2 restore [OPTIONS] IMAGE TARGET"
)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches of the command line"
)]
pub(crate) struct Restore {
    /// Image to read: qcow2 of any kind, QCOW version 1 or QED; - for standard input
    #[arg(value_name = "IMAGE")]
    pub(crate) image: PathBuf,

    /// File to replace once the disk is complete, block device to overwrite, or - for standard output
    #[arg(value_name = "TARGET")]
    pub(crate) target: PathBuf,

    #[command(flatten)]
    pub(crate) bytes: Bytes,

    /// Make the GPT of the disk fit a device that is larger or smaller: its backup goes to the end
    #[arg(long, conflicts_with_all = ["part", "offset", "length"])]
    fit: bool,

    /// Give the disk, its partitions and its filesystems new UUIDs, so that TARGET can stand beside the original
    #[arg(long, conflicts_with_all = ["offset", "length"])]
    new_ids: bool,

    /// On a block device, leave the clusters that IMAGE records as free as they are, instead of zeroing them
    #[arg(long)]
    used_only: bool,

    /// Read TARGET back, and compare it with what was written
    #[arg(long, conflicts_with = "no_sync")]
    verify: bool,

    /// Go on where IMAGE is damaged: list the ranges, write zeros for what cannot be read, and exit with 3
    #[arg(long)]
    pub(crate) keep_going: bool,

    /// Go on if TARGET has sectors of another size, is too small for free space, or cannot be asked who uses it
    #[arg(short, long)]
    force: bool,

    /// Do not replace an existing TARGET
    #[arg(long, conflicts_with = "overwrite")]
    no_clobber: bool,

    /// Replace TARGET even if it is an image, or a device that holds a partition table, a filesystem or the like
    #[arg(long)]
    overwrite: bool,

    /// Do not wait until TARGET is on stable storage
    #[arg(long)]
    no_sync: bool,

    /// Show what would be written, and whether it fits; change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    format: ImageFormat,

    #[command(flatten)]
    access: Access,

    #[command(flatten)]
    workers: Workers,

    /// Before a block device is overwritten, say which disk it is and what it holds
    #[arg(short, long)]
    pub(crate) verbose: bool,

    #[command(flatten)]
    pub(crate) shown: Shown,

    #[command(flatten)]
    pub(crate) json: Json,

    /// What a signal, or a failure, has left.
    #[arg(skip)]
    pub(crate) cleanup: Cleanup,
}

impl Restore {
    /// Refuses what is well-formed but cannot be meant.
    pub(crate) fn validate(&self) -> Result<(), String> {
        if self.is_stream() && self.verify {
            return Err("--verify cannot read standard output back; name a file or a device".to_owned());
        }
        if self.is_stream() && self.new_ids {
            return Err(
                "--new-ids writes to TARGET once more at the end; name a file or a device".to_owned(),
            );
        }
        if self.is_stream() && self.json.json {
            return Err("--json and TARGET - both write to standard output".to_owned());
        }
        Ok(())
    }

    /// Where the image is.
    pub(crate) fn image_at(&self) -> ImageAt {
        if self.is_piped() {
            ImageAt::Stdin
        } else {
            ImageAt::from(&self.image)
        }
    }

    /// Whether the image comes from standard input.
    pub(crate) fn is_piped(&self) -> bool {
        is_dash(&self.image)
    }

    /// Whether the disk goes to standard output.
    pub(crate) fn is_stream(&self) -> bool {
        is_dash(&self.target)
    }

    /// What the library is asked to do.
    pub(crate) fn options(&self) -> Options {
        Options {
            format: self.format.given(),
            access: self.access.files(),
            wanted: self.bytes.wanted(),
            sync: !self.no_sync,
            verify: self.verify,
            keep_going: self.keep_going,
            used_only: self.used_only,
            fit: self.fit,
            new_ids: self.new_ids,
            force: self.force,
            no_clobber: self.no_clobber,
            overwrite: self.overwrite,
            threads: self.workers.threads,
            cleanup: self.cleanup.clone(),
        }
    }
}
