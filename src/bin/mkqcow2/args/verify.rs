//! `mkqcow2 verify`.

use std::path::PathBuf;

use super::shared::{ImageFormat, Json, Shown, Workers};
use mkqcow2::verify::Options;

/// Read all of an image, decompress it and compare it with its checksums
#[derive(Debug, clap::Parser)]
#[command(name = "verify", override_usage = "mkqcow2 verify [OPTIONS] IMAGE")]
pub(crate) struct Verify {
    /// Image to verify
    #[arg(value_name = "IMAGE")]
    pub(crate) image: PathBuf,

    #[command(flatten)]
    format: ImageFormat,

    /// Verify IMAGE alone, not the images that it stands on
    #[arg(long)]
    pub(crate) only: bool,

    /// Verify the images that IMAGE stands on wherever they are, not only in its directory
    #[arg(long, conflicts_with = "only")]
    pub(crate) follow: bool,

    #[command(flatten)]
    workers: Workers,

    #[command(flatten)]
    pub(crate) shown: Shown,

    #[command(flatten)]
    pub(crate) json: Json,
}

impl Verify {
    /// What the library is asked to do.
    pub(crate) fn options(&self) -> Options {
        Options {
            format: self.format.given(),
            threads: self.workers.threads,
        }
    }
}
