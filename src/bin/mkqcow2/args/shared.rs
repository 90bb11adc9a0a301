//! Options that several commands have.

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use clap::builder::{PathBufValueParser, TypedValueParser};

use super::values::{parse_size, parse_threads, read_password};
use crate::bar;
use mkqcow2::disk::Section;
use mkqcow2::formats::{Format, Password};
use mkqcow2::output::Place;
use mkqcow2::volumes::Wanted;

/// Whether it is no name of a file, but stands for standard input or output.
pub(crate) fn is_dash(path: &Path) -> bool {
    path.as_os_str() == OsStr::new("-")
}

/// Where something goes of which the command line says so.
pub(crate) fn place(path: &Path) -> Place {
    if is_dash(path) { Place::Stdout } else { path.into() }
}

/// What that is called in messages.
pub(crate) fn shown_place(path: &Path) -> &Path {
    if is_dash(path) {
        Path::new("standard output")
    } else {
        path
    }
}

/// How many workers there are.
#[derive(Debug, clap::Args)]
pub(crate) struct Workers {
    /// Use N worker threads, 1 to 256 [default: number of processors, at most 8]
    #[arg(short = 'j', long, value_name = "N", value_parser = parse_threads)]
    pub(crate) threads: Option<NonZeroUsize>,
}

/// What is shown of a run that takes its time.
#[derive(Debug, clap::Args)]
pub(crate) struct Shown {
    /// Show progress even if standard error is not a terminal
    #[arg(short, long)]
    progress: bool,

    /// Show neither progress nor the closing line
    #[arg(short, long, conflicts_with = "progress")]
    pub(crate) quiet: bool,
}

impl Shown {
    /// How progress is shown.
    pub(crate) fn bar(&self) -> bar::Style {
        if self.quiet {
            bar::Style::Hidden
        } else {
            bar::Style::of_stderr(self.progress)
        }
    }
}

/// For whom the report is.
#[derive(Debug, clap::Args)]
pub(crate) struct Json {
    /// Print one JSON object on standard output instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which of the disks in an image is read, and which files may be opened for it.
#[derive(Debug, clap::Args)]
pub(crate) struct Access {
    /// Read the backing file of the image from PATH
    #[arg(long, value_name = "PATH")]
    pub(crate) backing: Option<PathBuf>,

    /// Formats of the backing files, from the first on, separated by commas; override those in the images
    #[arg(
        long,
        value_name = "FORMAT",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    backing_format: Vec<FormatArg>,

    /// Read the external data file of the image from PATH
    #[arg(long, value_name = "PATH")]
    pub(crate) data_file: Option<PathBuf>,

    /// Open the backing and data files that the image names
    #[arg(long)]
    pub(crate) follow: bool,

    /// Read the disk as it was in an internal snapshot
    #[arg(long, value_name = "NAME-OR-ID")]
    pub(crate) snapshot: Option<String>,

    /// Decrypt an AES-encrypted image with the password in FILE
    #[arg(long, value_name = "FILE", value_parser = PathBufValueParser::new().try_map(read_password))]
    password_file: Option<Password>,
}

impl Access {
    /// Whether anything is asked for that no raw disk has.
    pub(crate) fn is_for_images(&self) -> bool {
        let options = self.backing.is_some() || self.data_file.is_some() || self.snapshot.is_some();
        options || self.follow || !self.backing_format.is_empty() || self.password_file.is_some()
    }

    /// What the library is asked to open.
    pub(crate) fn files(&self) -> mkqcow2::formats::Access {
        mkqcow2::formats::Access {
            backing: self.backing.clone(),
            data_file: self.data_file.clone(),
            follow: self.follow,
            snapshot: self.snapshot.clone(),
            backing_formats: self.backing_format.iter().map(|format| format.meant()).collect(),
            password: self.password_file.clone(),
        }
    }
}

/// Which bytes of a disk are wanted.
#[derive(Debug, clap::Args)]
pub(crate) struct Bytes {
    /// Only this volume: the number of a partition, GROUP/VOLUME of LVM, or a label that no other volume has
    #[arg(long, value_name = "NAME", conflicts_with_all = ["offset", "length"])]
    pub(crate) part: Option<String>,

    /// Begin at this byte of the disk, a multiple of 512
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = parse_size)]
    offset: Option<u64>,

    /// Only this many bytes of the disk, a multiple of 512 [default: up to the end]
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = parse_size)]
    length: Option<u64>,
}

impl Bytes {
    /// What the library is asked for.
    pub(crate) fn wanted(&self) -> Wanted {
        wanted(self.part.as_deref(), self.offset, self.length)
    }
}

/// Which bytes of a disk are meant: those of a volume, a section, or all.
pub(crate) fn wanted(part: Option<&str>, offset: Option<u64>, length: Option<u64>) -> Wanted {
    match (part, offset, length) {
        (Some(name), ..) => Wanted::Volume(name.to_owned()),
        (None, None, None) => Wanted::Whole,
        (None, offset, length) => Wanted::Section(Section {
            offset: offset.unwrap_or(0),
            length,
        }),
    }
}

/// What an image is, if that is not to be seen by itself.
#[derive(Debug, clap::Args)]
pub(crate) struct ImageFormat {
    /// Format of IMAGE: qcow2, qcow or qed [default: recognised by its first bytes]
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    format: Option<FormatArg>,
}

impl ImageFormat {
    /// What was said.
    pub(crate) fn given(&self) -> Option<Format> {
        self.format.map(FormatArg::meant)
    }
}

/// How a file or device holds a disk.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum FormatArg {
    Raw,
    Qcow2,
    Qcow,
    Qed,
}

impl FormatArg {
    pub(crate) fn meant(self) -> Format {
        match self {
            Self::Raw => Format::Raw,
            Self::Qcow2 => Format::Qcow2,
            Self::Qcow => Format::Qcow,
            Self::Qed => Format::Qed,
        }
    }
}
