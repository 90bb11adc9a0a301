//! `mkqcow2 SOURCE IMAGE`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use super::shared::{Access, Bytes, FormatArg, Json, Shown, is_dash};
use super::values::{Compress, parse_cluster_size, parse_compress, parse_dedupe_memory, parse_threads};
use crate::provenance;
use mkqcow2::Options;
use mkqcow2::disk::rescue::OnReadError;
use mkqcow2::formats::qcow2::structures::digest::SMALLEST_CLUSTER;
use mkqcow2::formats::qcow2::structures::geometry::ClusterSize;
use mkqcow2::formats::qcow2::structures::header::{Compat, Compression};
use mkqcow2::output::Cleanup;
use mkqcow2::pipeline::compress::Codec;
use mkqcow2::volumes::Scan;

/// The end of the help.
pub(crate) const AFTER_HELP: &str = "\
SIZE is in bytes, or with K, M, G, T, P or E (powers of 1024), or hexadecimal (0x4100000).
Exit status: 0 done; 1 failed, IMAGE unchanged (standard output: incomplete);
3 done, with a warning that matters; 64 usage.
Manual: man 8 mkqcow2";

/// Copy a block device, a filesystem or a raw file into a packed qcow2 image
#[derive(Debug, Parser)]
#[command(name = "mkqcow2", override_usage = "mkqcow2 [OPTIONS] SOURCE IMAGE", version)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches of the command line"
)]
pub(crate) struct Create {
    /// Block device or regular file to image
    #[arg(value_name = "SOURCE")]
    pub(crate) source: PathBuf,

    /// Image file to replace once the new one is complete, or - for standard output
    #[arg(value_name = "IMAGE")]
    pub(crate) image: PathBuf,

    /// Cluster size of the image, a power of two from 512 to 2M
    #[arg(long, value_name = "SIZE", default_value = "64K", value_parser = parse_cluster_size)]
    cluster_size: ClusterSize,

    /// Version of the qcow2 format: 0.10 (version 2) or 1.1 (version 3)
    #[arg(
        long,
        value_name = "VERSION",
        default_value = "1.1",
        hide_possible_values = true
    )]
    compat: CompatArg,

    /// Compress clusters: none, zstd[:1 to 19] or zlib[:1 to 9]; for standard output only with --two-pass
    #[arg(short, long, value_name = "METHOD", default_value = "none", value_parser = parse_compress)]
    compress: Compress,

    /// Store equal compressed clusters once
    #[arg(long)]
    dedupe: bool,

    /// Memory for finding equal clusters
    #[arg(long, value_name = "SIZE", default_value = "256M", requires = "dedupe", value_parser = parse_dedupe_memory)]
    dedupe_memory: u64,

    /// For standard output: read SOURCE twice, so that the image is the same as in a file
    #[arg(long)]
    two_pass: bool,

    /// How to find free space: auto (maps of filesystems, and holes) or sparse (holes only)
    #[arg(long, value_name = "HOW", default_value = "auto", hide_possible_values = true)]
    scan: ScanArg,

    /// Format of SOURCE: raw, qcow2, qcow or qed [default: raw; a file that begins like an image is refused]
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    source_format: Option<FormatArg>,

    #[command(flatten)]
    access: Access,

    /// Store only what differs from the image BASE, which the new one stands on
    #[arg(long, value_name = "BASE")]
    pub(crate) base: Option<PathBuf>,

    /// Make a full image, with a warning, if BASE is missing, damaged or was changed
    #[arg(long, requires = "base")]
    full_if_unfit: bool,

    #[command(flatten)]
    bytes: Bytes,

    /// Where SOURCE cannot be read: stop, or fill with zeros sector by sector and exit with 3
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "stop",
        hide_possible_values = true
    )]
    on_read_error: OnReadErrorArg,

    /// Write neither the checksum table nor the record of free clusters
    #[arg(long)]
    no_checksums: bool,

    /// Record a BLAKE3 digest of each cluster; the default where clusters are compressed, or there is a base
    #[arg(long, conflicts_with_all = ["no_digests", "no_checksums"])]
    digests: bool,

    /// Record no digests
    #[arg(long)]
    no_digests: bool,

    /// Do not record when, on which host and from which source IMAGE is made
    #[arg(long)]
    no_provenance: bool,

    /// Do not replace an existing IMAGE
    #[arg(long, conflicts_with = "overwrite")]
    no_clobber: bool,

    /// Replace IMAGE even if it is not a qcow2 image
    #[arg(long)]
    overwrite: bool,

    /// Do not wait until IMAGE is on stable storage
    #[arg(long)]
    no_sync: bool,

    /// Image SOURCE even if it is in use
    #[arg(short, long)]
    force: bool,

    /// Show the plan and the expected size of IMAGE; change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,

    /// Use N worker threads, 1 to 256 [default: processors less one, at most 8; with -c processors, at most 32]
    #[arg(short = 'j', long, value_name = "N", value_parser = parse_threads)]
    threads: Option<NonZeroUsize>,

    #[command(flatten)]
    pub(crate) shown: Shown,

    /// Show the plan and the result in more detail
    #[arg(short, long, conflicts_with = "quiet")]
    pub(crate) verbose: bool,

    #[command(flatten)]
    pub(crate) json: Json,

    /// What a signal, or a failure, has left.
    #[arg(skip)]
    pub(crate) cleanup: Cleanup,
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

impl Create {
    /// Refuses what is well-formed but cannot be meant.
    pub(crate) fn validate(&self) -> Result<(), String> {
        if is_dash(&self.source) {
            return Err("SOURCE cannot be standard input; write ./- for a file of that name".to_owned());
        }
        if self.is_stream() && self.json.json {
            return Err("--json and IMAGE - both write to standard output".to_owned());
        }
        if self.is_raw() && self.access.is_for_images() {
            return Err(
                "--backing, --backing-format, --data-file, --follow, --snapshot and --password-file are for images: \
                 say what SOURCE is with --source-format"
                    .to_owned(),
            );
        }
        if !self.no_provenance {
            provenance::epoch()?;
        }
        let compression = self.codec().map(Codec::compression);
        if self.is_stream() && self.dedupe {
            return Err("--dedupe reads back what was written, which standard output cannot do".to_owned());
        }
        if self.base.is_some() && self.no_checksums {
            return Err(
                "--base needs checksums: the record behind them tells which image the new one stands on"
                    .to_owned(),
            );
        }
        if self.is_stream() && self.base.is_some() && !self.two_pass {
            return Err(
                "--base to standard output needs --two-pass, because the tables come first there and depend on what \
                 differs"
                    .to_owned(),
            );
        }
        if self.is_stream() && compression.is_some() && !self.two_pass {
            return Err(
                "--compress to standard output needs --two-pass, because the tables come first there; or pipe \
                 the image through zstd"
                    .to_owned(),
            );
        }
        if self.two_pass && !self.is_stream() {
            return Err("--two-pass is for standard output only: a file needs one pass".to_owned());
        }
        if compression == Some(Compression::Zstd) && matches!(self.compat, CompatArg::V0_10) {
            return Err("--compress zstd needs --compat 1.1; version 2 knows zlib only".to_owned());
        }
        if self.digests && self.cluster_size.bytes() < SMALLEST_CLUSTER {
            return Err("--digests needs clusters of 1K or more".to_owned());
        }
        if self.dedupe && compression.is_none() {
            return Err(
                "--dedupe needs --compress zstd or zlib: only compressed clusters can be shared".to_owned(),
            );
        }
        Ok(())
    }

    /// How clusters are compressed, if they are.
    pub(crate) fn codec(&self) -> Option<Codec> {
        self.compress.0
    }

    /// Whether equal clusters are stored once.
    pub(crate) fn is_deduping(&self) -> bool {
        self.dedupe
    }

    /// Whether the source is read byte by byte.
    pub(crate) fn is_raw(&self) -> bool {
        matches!(self.source_format, None | Some(FormatArg::Raw))
    }

    /// Whether what cannot be read becomes zeros.
    pub(crate) fn is_reading_on(&self) -> bool {
        matches!(self.on_read_error, OnReadErrorArg::Zero)
    }

    /// Whether the image goes to standard output.
    pub(crate) fn is_stream(&self) -> bool {
        is_dash(&self.image)
    }

    /// What the library is asked to do.
    pub(crate) fn options(&self) -> Options {
        Options {
            cluster_size: self.cluster_size,
            compat: match self.compat {
                CompatArg::V0_10 => Compat::V0_10,
                CompatArg::V1_1 => Compat::V1_1,
            },
            compression: self.codec(),
            dedupe_memory: self.dedupe.then_some(self.dedupe_memory),
            two_pass: self.two_pass,
            scan: match self.scan {
                ScanArg::Auto => Scan::Auto,
                ScanArg::Sparse => Scan::Sparse,
            },
            format: self.source_format.map(FormatArg::meant),
            access: self.access.files(),
            base: self.base.clone(),
            full_if_unfit: self.full_if_unfit,
            wanted: self.bytes.wanted(),
            force: self.force,
            plan_only: self.dry_run,
            on_read_error: match self.on_read_error {
                OnReadErrorArg::Stop => OnReadError::Stop,
                OnReadErrorArg::Zero => OnReadError::Zero,
            },
            checksums: !self.no_checksums,
            digests: (self.digests || self.no_digests).then_some(self.digests),
            provenance: (!self.no_provenance).then(|| provenance::of(&self.source)),
            sync: !self.no_sync,
            no_clobber: self.no_clobber,
            overwrite: self.overwrite,
            threads: self.threads,
            cleanup: self.cleanup.clone(),
        }
    }
}
