//! The command line, and what it means.

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};

use crate::bar;
use mkqcow2::Options;
use mkqcow2::allocation::Scan;
use mkqcow2::format::geometry::ClusterSize;
use mkqcow2::format::header::Compat;
use mkqcow2::sink::Cleanup;
use mkqcow2::source::Part;
use mkqcow2::source::rescue::OnReadError;

/// Words that are, or will be, commands.
const VERBS: [&str; 6] = ["restore", "verify", "check", "compare", "info", "map"];

/// Copy a block device, a filesystem or a raw file into a packed qcow2 image
#[derive(Debug, Parser)]
#[command(
    name = "mkqcow2",
    override_usage = "mkqcow2 [OPTIONS] SOURCE IMAGE",
    version,
    max_term_width = 100,
    after_help = "SIZE is in bytes, or with K, M, G, T, P or E (powers of 1024).\nExit status: 0 done, 1 failed and IMAGE unchanged, 3 done with a warning that matters, 64 usage.\nThe whole story: man 8 mkqcow2"
)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches of the command line"
)]
pub(crate) struct Args {
    /// Block device or regular file to image
    #[arg(value_name = "SOURCE")]
    pub(crate) source: PathBuf,

    /// Image file to write; replaced only once the new one is complete
    #[arg(value_name = "IMAGE")]
    pub(crate) image: PathBuf,

    /// Cluster size of the image, a power of two from 512 to 2M
    #[arg(long, value_name = "SIZE", default_value = "64K", value_parser = parse_cluster_size)]
    cluster_size: ClusterSize,

    /// Version of the format: 0.10 (version 2) or 1.1 (version 3)
    #[arg(
        long,
        value_name = "VERSION",
        default_value = "1.1",
        hide_possible_values = true
    )]
    compat: CompatArg,

    /// How to find what is in use: auto or sparse (as yet the same: holes and zero test)
    #[arg(long, value_name = "HOW", default_value = "auto", hide_possible_values = true)]
    scan: ScanArg,

    /// Begin at this byte of SOURCE, a multiple of 512
    #[arg(long, value_name = "SIZE", default_value = "0", allow_negative_numbers = true, value_parser = parse_size)]
    offset: u64,

    /// Image only this many bytes, a multiple of 512 [default: up to the end]
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = parse_size)]
    length: Option<u64>,

    /// Where SOURCE cannot be read: stop, or fill with zeros sector by sector and exit with 3
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "stop",
        hide_possible_values = true
    )]
    on_read_error: OnReadErrorArg,

    /// Leave out the checksum table
    #[arg(long)]
    no_checksums: bool,

    /// Do not replace an existing IMAGE
    #[arg(long)]
    no_clobber: bool,

    /// Do not wait until IMAGE is on stable storage
    #[arg(long)]
    no_sync: bool,

    /// Image SOURCE even if it is in use
    #[arg(short, long)]
    force: bool,

    /// Show the plan and the expected size of IMAGE; change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,

    /// Use N worker threads, 1 to 256 [default: processors less one, at most 8]
    #[arg(short = 'j', long, value_name = "N", value_parser = parse_threads)]
    threads: Option<NonZeroUsize>,

    /// Show progress even if standard error is not a terminal
    #[arg(short, long)]
    progress: bool,

    /// Show neither progress nor the closing line
    #[arg(short, long, conflicts_with_all = ["progress", "verbose"])]
    pub(crate) quiet: bool,

    /// Show what is planned and what came out in more detail
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// Print one JSON object on standard output instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CompatArg {
    #[value(name = "0.10", alias = "v2")]
    V0_10,
    #[value(name = "1.1", alias = "v3")]
    V1_1,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ScanArg {
    Auto,
    Sparse,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnReadErrorArg {
    Stop,
    Zero,
}

impl Args {
    /// Parses the command line, and refuses what is well-formed but cannot be meant.
    pub(crate) fn from_command_line() -> Result<Self, clap::Error> {
        // Before all else: what is behind a command is not SOURCE and IMAGE.
        let first = std::env::args_os().nth(1).unwrap_or_default();
        refuse_verb(&first)?;
        Self::try_parse()?.validated()
    }

    fn validated(self) -> Result<Self, clap::Error> {
        refuse_verb(self.source.as_os_str())?;
        let is_dash = |path: &Path| path.as_os_str() == OsStr::new("-");
        if is_dash(&self.source) {
            return Err(refusal(
                "SOURCE cannot be standard input; write ./- for a file of that name",
            ));
        }
        if is_dash(&self.image) {
            return Err(refusal(
                "IMAGE cannot be standard output in this version; write ./- for a file of that name",
            ));
        }
        Ok(self)
    }

    /// What the library is asked to do.
    pub(crate) fn options(&self, cleanup: Cleanup) -> Options {
        Options {
            cluster_size: self.cluster_size,
            compat: match self.compat {
                CompatArg::V0_10 => Compat::V0_10,
                CompatArg::V1_1 => Compat::V1_1,
            },
            scan: match self.scan {
                ScanArg::Auto => Scan::Auto,
                ScanArg::Sparse => Scan::Sparse,
            },
            part: Part {
                offset: self.offset,
                length: self.length,
            },
            force: self.force,
            on_read_error: match self.on_read_error {
                OnReadErrorArg::Stop => OnReadError::Stop,
                OnReadErrorArg::Zero => OnReadError::Zero,
            },
            checksums: !self.no_checksums,
            sync: !self.no_sync,
            no_clobber: self.no_clobber,
            threads: self.threads,
            cleanup,
        }
    }

    /// How progress is shown.
    pub(crate) fn bar(&self) -> bar::Style {
        if self.quiet || self.dry_run {
            bar::Style::Hidden
        } else if std::io::stderr().is_terminal() {
            bar::Style::Terminal
        } else if self.progress {
            bar::Style::Lines
        } else {
            bar::Style::Hidden
        }
    }
}

fn refuse_verb(word: &OsStr) -> Result<(), clap::Error> {
    match VERBS.into_iter().find(|verb| word == *verb) {
        Some(verb) => Err(refusal(&format!(
            "'{verb}' is kept for a command of that name, which this version does not have yet; \
             write ./{verb} for the file"
        ))),
        None => Ok(()),
    }
}

fn refusal(message: &str) -> clap::Error {
    Args::command().error(ErrorKind::ValueValidation, message)
}

/// A number of bytes: digits, then nothing or one of K, M, G, T, P, E with or without `iB`.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    let unit = suffix
        .strip_suffix("iB")
        .filter(|unit| !unit.is_empty())
        .unwrap_or(suffix);
    let shift = match unit {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        "P" | "p" => 50,
        "E" | "e" => 60,
        _ => {
            return Err(format!(
                "'{suffix}' is no unit, expected K, M, G, T, P or E (powers of 1024)"
            ));
        }
    };
    if number.is_empty() {
        return Err("expected a number of bytes, such as 4096, 64K or 1GiB".to_owned());
    }
    let too_large = || "is 16 EiB or more".to_owned();
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(too_large)
}

fn parse_cluster_size(text: &str) -> Result<ClusterSize, String> {
    let bytes = parse_size(text)?;
    ClusterSize::new(bytes).ok_or_else(|| format!("{bytes} bytes, expected a power of two from 512 to 2M"))
}

fn parse_threads(text: &str) -> Result<NonZeroUsize, String> {
    let threads = text.parse().ok().filter(|threads| (1..=256).contains(threads));
    threads
        .and_then(NonZeroUsize::new)
        .ok_or_else(|| "expected a number from 1 to 256".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("64K", 65536),
            ("64k", 65536),
            ("2M", 2 << 20),
            ("1GiB", 1 << 30),
            ("15E", 15 << 60),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "K",
            "iB",
            "1KB",
            "1.5G",
            "-1",
            "+1",
            "1 K",
            "16E",
            "99999999999999999999",
            "1iB",
            "0x10",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
