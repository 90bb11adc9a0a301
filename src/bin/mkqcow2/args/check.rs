//! `mkqcow2 check`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::shared::{ImageFormat, Json, Shown};
use super::values::parse_threads;
use mkqcow2::Access;
use mkqcow2::check::Options;

/// Check the tables of an image for consistency
#[derive(Debug, clap::Parser)]
#[command(name = "check", override_usage = "mkqcow2 check [OPTIONS] IMAGE")]
pub(crate) struct Check {
    /// Image to check
    #[arg(value_name = "IMAGE")]
    pub(crate) image: PathBuf,

    #[command(flatten)]
    pub(crate) format: ImageFormat,

    /// Decompress all compressed clusters too
    #[arg(long)]
    data: bool,

    /// Check that clusters lie within the external data file PATH
    #[arg(long, value_name = "PATH")]
    data_file: Option<PathBuf>,

    /// Open the external data file that the image names, and the images that it stands on wherever they are
    #[arg(long)]
    pub(crate) follow: bool,

    /// Check IMAGE alone, not the images that it stands on
    #[arg(long, conflicts_with = "follow")]
    pub(crate) only: bool,

    /// Use N worker threads, 1 to 256 [default: number of processors, at most 8]
    #[arg(short = 'j', long, value_name = "N", value_parser = parse_threads)]
    threads: Option<NonZeroUsize>,

    #[command(flatten)]
    pub(crate) shown: Shown,

    #[command(flatten)]
    pub(crate) json: Json,
}

impl Check {
    /// What was asked for, as the library has it.
    pub(crate) fn options(&self) -> Options {
        Options {
            data: self.data,
            threads: self.threads,
        }
    }

    /// Which files besides the image may be opened.
    pub(crate) fn access(&self) -> Access {
        Access {
            data_file: self.data_file.clone(),
            follow: self.follow,
            ..Access::default()
        }
    }
}
