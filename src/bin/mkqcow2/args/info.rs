//! `mkqcow2 info`.

use std::path::PathBuf;

use super::shared::{ImageFormat, Json};

/// Show what is in an image: sizes, features, snapshots, checksums
#[derive(Debug, clap::Parser)]
#[command(name = "info", override_usage = "mkqcow2 info [OPTIONS] IMAGE")]
pub(crate) struct Info {
    /// Image to describe
    #[arg(value_name = "IMAGE")]
    pub(crate) image: PathBuf,

    #[command(flatten)]
    pub(crate) format: ImageFormat,

    /// List the images that IMAGE stands on wherever they are, not only in its directory
    #[arg(long)]
    pub(crate) follow: bool,

    #[command(flatten)]
    pub(crate) json: Json,
}
