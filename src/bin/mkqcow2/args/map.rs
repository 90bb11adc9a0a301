//! `mkqcow2 map`.

use std::path::PathBuf;

use super::shared::{Access, Bytes, FormatArg};
use mkqcow2::map::Options;

/// Show which ranges of a disk are in use, and where in an image they are
#[derive(Debug, clap::Parser)]
#[command(name = "map", override_usage = "mkqcow2 map [OPTIONS] IMAGE-OR-SOURCE")]
pub(crate) struct Map {
    /// Image, raw file or block device
    #[arg(value_name = "IMAGE-OR-SOURCE")]
    pub(crate) path: PathBuf,

    /// Format: raw, qcow2, qcow or qed [default: recognised by its first bytes, else raw]
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    format: Option<FormatArg>,

    #[command(flatten)]
    pub(crate) bytes: Bytes,

    #[command(flatten)]
    access: Access,

    /// Show the partitions and filesystems on the disk instead of ranges
    #[arg(long)]
    pub(crate) regions: bool,

    /// Print JSON on standard output instead of text: for ranges an array like that of qemu-img map
    #[arg(long)]
    pub(crate) json: bool,
}

impl Map {
    /// What the library is asked to do.
    pub(crate) fn options(&self) -> Options {
        Options {
            format: self.format.map(FormatArg::meant),
            access: self.access.files(),
            wanted: self.bytes.wanted(),
        }
    }
}
