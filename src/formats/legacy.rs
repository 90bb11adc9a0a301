//! Images of the formats that are older and simpler than qcow2, by themselves: no other file is opened.

pub(super) mod two_level;

use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;

use zerocopy::{FromBytes, IntoBytes};

use super::cipher::Cipher;
use super::decompress::Decoder;
use super::format::Format;
use super::layer::Layer;
use super::opening::{Backing, Opened};
use super::windows::{Hand, Spare};
use super::{HostFile, Remark, Run, truncated};
use crate::error::{Corrupt, Error, Expected, Result};
use crate::formats::qcow2::structures::mapping::Stream;
use crate::units::{GuestOffset, HostOffset, length, to_u64, to_usize};
use two_level::{Entries, Extent, Shape, Tables, TwoLevel};

pub(crate) use two_level::{Cursor, Examiner, Found};

/// An image of QCOW version 1 or QED whose header was validated, and that its table of the first level lies within
/// the file.
#[derive(Debug)]
pub struct LegacyImage {
    tables: TwoLevel,
    backing: Option<Backing>,
    header: LegacyHeader,
}

/// What only headers of one format have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegacyHeader {
    /// Of QCOW version 1.
    Qcow {
        /// Whether the clusters are encrypted, with AES.
        is_encrypted: bool,
        /// When the backing file was changed last, in seconds since 1970, if that was kept.
        mtime: Option<u32>,
    },
    /// Of QED.
    Qed {
        /// The length of all tables, in clusters.
        table_size: u64,
        /// Feature bits: that it takes to read the image, that may be ignored, and that are cleared by whoever does
        /// not know them.
        features: [u64; 3],
    },
}

/// What an image is made of, once its header is known.
pub(super) struct Parts {
    pub(super) file: HostFile,
    pub(super) tables: Tables,
    pub(super) shape: Shape,
    pub(super) entries: Box<dyn Entries>,
    /// Where the name of the backing file is, at most 1023 bytes, and its format.
    pub(super) backing: Option<(Range<u64>, Option<Format>)>,
    pub(super) header: LegacyHeader,
    pub(super) remark: Option<Remark>,
}

impl LegacyImage {
    pub(super) fn new(parts: Parts) -> Result<Self> {
        let backing = match parts.backing {
            None => None,
            Some((place, format)) => {
                let mut name = vec![0; to_usize(length(&place))];
                parts.file.read_exact(&mut name, HostOffset(place.start))?;
                Some(Backing {
                    name: OsString::from_vec(name),
                    format: format.map(|format| format.name().to_owned()),
                })
            }
        };
        let tables = TwoLevel {
            file: parts.file,
            tables: parts.tables,
            shape: parts.shape,
            entries: parts.entries,
            cipher: None,
            remark: parts.remark,
            spare: Spare::default(),
        };
        tables.validate()?;
        Ok(Self {
            tables,
            backing,
            header: parts.header,
        })
    }

    /// As one of the files of a disk, decrypted if it is encrypted.
    pub(super) fn opened(self, cipher: Option<Cipher>) -> Opened {
        let files = vec![self.tables.file.id()];
        let layer = TwoLevel {
            cipher,
            ..self.tables
        };
        Opened {
            layer: Box::new(layer),
            files,
            backing: self.backing,
        }
    }

    /// Refuses an image that was not closed properly, if its tables are not what they can be.
    pub(super) fn refuse_damaged(&self) -> Result<()> {
        self.tables.examine(&mut Refusal).map(drop)
    }

    /// Its format.
    pub fn format(&self) -> Format {
        match self.header {
            LegacyHeader::Qcow { .. } => Format::Qcow,
            LegacyHeader::Qed { .. } => Format::Qed,
        }
    }

    /// What only headers of its format have.
    pub fn header(&self) -> &LegacyHeader {
        &self.header
    }

    /// The size of the disk, in bytes.
    pub fn size(&self) -> u64 {
        self.tables.shape.size
    }

    /// The size of a cluster, in bytes.
    pub fn cluster_size(&self) -> u64 {
        self.tables.shape.cluster_size
    }

    /// How many clusters the disk has, the last one perhaps in part.
    pub fn clusters(&self) -> u64 {
        self.size().div_ceil(self.cluster_size().max(1))
    }

    /// How many clusters a table of the second level is for.
    pub fn l2_entries(&self) -> u64 {
        self.tables.shape.l2_entries
    }

    /// How much of the disk a table of the second level is for, in bytes.
    pub(crate) fn l2_reach(&self) -> u64 {
        self.tables.shape.reach()
    }

    /// The file it is in.
    pub fn file(&self) -> &HostFile {
        &self.tables.file
    }

    /// The name of the backing file as the image has it: relative to the image, or with a protocol in front.
    pub fn backing_name(&self) -> Option<&OsStr> {
        self.backing.as_ref().map(|backing| backing.name.as_os_str())
    }

    /// The name of the format of the backing file, if the image tells that.
    pub fn backing_format(&self) -> Option<&str> {
        self.backing
            .as_ref()
            .and_then(|backing| backing.format.as_deref())
    }

    /// What it says about itself that its reader should know, if its tables are right.
    pub fn remark(&self) -> Option<Remark> {
        self.tables.remark
    }

    /// The longest range from `at` on, up to `limit` bytes, that is in one place, as
    /// [`Image::run_at`](super::qcow2::Image::run_at).
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if a table is damaged there.
    /// - [`Error::Io`] if the file cannot be read.
    pub fn run_at(&self, at: GuestOffset, limit: u64) -> Result<Run> {
        self.tables.run_at(at, limit)
    }

    /// A walk along the disk, for whoever asks for one run after the other.
    pub(crate) fn walk(&self) -> Cursor<'_> {
        Cursor::new(&self.tables, Hand::default())
    }

    /// Decompresses the cluster that holds the bytes of `guest`.
    pub(crate) fn decode(
        &self,
        decoder: &mut Decoder,
        stream: Stream,
        guest: Range<u64>,
        cluster: &mut [u8],
    ) -> Result<()> {
        self.tables.decode(decoder, stream, guest, cluster)
    }

    /// Looks at all tables, as [`TwoLevel::examine`].
    pub(crate) fn examine(&self, examiner: &mut dyn Examiner) -> Result<Extent> {
        self.tables.examine(examiner)
    }
}

/// The header of a file, as it is there.
///
/// # Errors
///
/// - [`Error::Corrupt`](crate::Error::Corrupt) if the file ends in it.
/// - [`Error::Io`](crate::Error::Io) if it cannot be read.
pub(super) fn raw_header<T: FromBytes + IntoBytes>(file: &HostFile) -> Result<T> {
    let mut raw = T::new_zeroed();
    let (found, needed) = (file.length(), to_u64(size_of::<T>()));
    if found < needed {
        return Err(truncated("header", HostOffset(0), found, needed));
    }
    file.read_beginning(raw.as_mut_bytes())?;
    Ok(raw)
}

/// That a field of the header holds what it cannot.
pub(super) fn wrong_field(name: &'static str, found: u64, expected: Expected) -> Error {
    Error::field("header", HostOffset(0), name, found, expected)
}

/// Takes nothing but tables that are right. That room is wasted does not matter for reading.
struct Refusal;

impl Examiner for Refusal {
    fn found(&mut self, found: Found) -> Result<()> {
        match found.fault() {
            Some(fault) => Err(Corrupt::NotClosed(Box::new(fault)).into()),
            None => Ok(()),
        }
    }
}
