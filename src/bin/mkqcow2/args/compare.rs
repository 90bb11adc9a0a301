//! `mkqcow2 compare`.

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Parser;

use super::shared::{Access, Bytes, FormatArg, Json, Shown, wanted};
use super::values::{parse_size, parse_threads};
use mkqcow2::compare::{Options, Said};
use mkqcow2::volumes::Wanted;

/// The end of the help.
const AFTER_HELP: &str = "\
For A only: --part, --offset, --length, --backing, --backing-format, --data-file,
and --snapshot, --password-file.
For both: --follow, --force.
Exit status: 0 equal, 1 different, 2 could not compare, 64 usage.";

/// Compare two disks byte by byte, each an image, a raw file or a device
#[derive(Debug, Parser)]
#[command(
    name = "compare",
    override_usage = "mkqcow2 compare [OPTIONS] A B",
    after_help = AFTER_HELP
)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches of the command line"
)]
pub(crate) struct Compare {
    /// Image, raw file or block device
    #[arg(value_name = "A")]
    pub(crate) a: PathBuf,

    /// Image, raw file or block device to compare with A
    #[arg(value_name = "B")]
    pub(crate) b: PathBuf,

    /// Format of A: raw, qcow2, qcow or qed [default: recognised by its first bytes, else raw]
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    format_a: Option<FormatArg>,

    /// Format of B, likewise
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    format_b: Option<FormatArg>,

    #[command(flatten)]
    bytes: Bytes,

    /// Only this volume of B, likewise
    #[arg(long, value_name = "NAME", conflicts_with_all = ["offset_b", "length_b"])]
    part_b: Option<String>,

    /// Begin at this byte of B, a multiple of 512
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = parse_size)]
    offset_b: Option<u64>,

    /// Only this many bytes of B, a multiple of 512 [default: up to the end]
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = parse_size)]
    length_b: Option<u64>,

    #[command(flatten)]
    access: Access,

    /// List all ranges that differ, not only the first
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Count different sizes as a difference even if the rest of the larger disk is zeros
    #[arg(short, long)]
    strict: bool,

    /// Count free blocks in the filesystems of a raw file or device as zeros, as its image does
    #[arg(short, long)]
    used: bool,

    /// Compare a device or raw file even if it is in use
    #[arg(short, long)]
    force: bool,

    /// Use N worker threads, 1 to 256 [default: number of processors, at most 8]
    #[arg(short = 'j', long, value_name = "N", value_parser = parse_threads)]
    threads: Option<NonZeroUsize>,

    #[command(flatten)]
    pub(crate) shown: Shown,

    #[command(flatten)]
    pub(crate) json: Json,
}

impl Compare {
    /// Refuses what is well-formed but cannot be meant.
    pub(crate) fn validate(&self) -> Result<(), String> {
        for (name, path) in [("A", &self.a), ("B", &self.b)] {
            if path.as_os_str() == OsStr::new("-") {
                let message = format!("{name} cannot be standard input; write ./- for a file of that name");
                return Err(message);
            }
        }
        Ok(())
    }

    /// Which bytes of the two are compared.
    pub(crate) fn wanted(&self) -> [Wanted; 2] {
        let of_b = wanted(self.part_b.as_deref(), self.offset_b, self.length_b);
        [self.bytes.wanted(), of_b]
    }

    /// What the library is asked to do.
    pub(crate) fn options(&self) -> Options {
        let a = self.access.files();
        let b = mkqcow2::formats::Access {
            follow: a.follow,
            ..Default::default()
        };
        let said = |format: Option<FormatArg>, access, wanted| Said {
            format: format.map(FormatArg::meant),
            access,
            wanted,
        };
        let [wanted_a, wanted_b] = self.wanted();
        Options {
            a: said(self.format_a, a, wanted_a),
            b: said(self.format_b, b, wanted_b),
            strict: self.strict,
            used: self.used,
            force: self.force,
            threads: self.threads,
        }
    }
}
