//! `mkqcow2 mount IMAGE DIRECTORY`.

use std::path::PathBuf;

use clap::Parser;

use super::shared::{Access, ImageFormat, Json, Workers, is_dash};
use mkqcow2::mount::Options;

/// The end of the help.
const AFTER_HELP: &str = "\
umount DIRECTORY ends it.
Exit status: 0 mounted, or with --foreground unmounted; 1 failed; 3 --json could not be printed; 64 usage.
Manual: man 8 mkqcow2-mount";

/// Show the disk in an image and its partitions as files in a directory
#[derive(Debug, Parser)]
#[command(
    name = "mkqcow2 mount",
    override_usage = "mkqcow2 mount [OPTIONS] IMAGE DIRECTORY",
    after_help = AFTER_HELP
)]
pub(crate) struct Mount {
    /// Image to show: qcow2 of any kind, QCOW version 1 or QED
    #[arg(value_name = "IMAGE")]
    pub(crate) image: PathBuf,

    /// Empty directory to mount on
    #[arg(value_name = "DIRECTORY")]
    pub(crate) directory: PathBuf,

    /// Let the files be written to; changes go to a temporary file, and are lost when DIRECTORY is unmounted
    #[arg(long)]
    copy_on_write: bool,

    /// Stay in the foreground until DIRECTORY is unmounted
    #[arg(long)]
    pub(crate) foreground: bool,

    /// Used by the program itself: run in the background, and tell on standard output when it is mounted.
    #[arg(long, hide = true, requires = "foreground")]
    pub(crate) in_background: bool,

    #[command(flatten)]
    format: ImageFormat,

    #[command(flatten)]
    access: Access,

    #[command(flatten)]
    workers: Workers,

    #[command(flatten)]
    pub(crate) json: Json,
}

impl Mount {
    /// Refuses what is well-formed but cannot be meant.
    pub(crate) fn validate(&self) -> Result<(), String> {
        if is_dash(&self.image) {
            let message =
                "IMAGE cannot be standard input, which cannot seek; write ./- for a file of that name";
            return Err(message.to_owned());
        }
        Ok(())
    }

    /// What the library is asked to do.
    pub(crate) fn options(&self) -> Options {
        Options {
            format: self.format.given(),
            access: self.access.files(),
            copy_on_write: self.copy_on_write,
            threads: self.workers.threads,
        }
    }
}
