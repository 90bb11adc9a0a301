//! The list of header extensions of an image. Spec: qcow2.txt, "Header extensions".

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use zerocopy::FromBytes;

use super::extension::{
    BACKING_FORMAT, BITMAPS, CHECKSUMS, CHECKSUMS_ONLY, ChecksumsAt, DATA_FILE, ENCRYPTION, END,
    FEATURE_NAMES, OursAt, RawBitmaps, RawChecksums, RawExtension, RawFeatureName,
};
use super::features::FeatureKind;
use crate::error::{Corrupt, Error, Expected, Result};
use crate::units::{Exact, HostOffset, to_u64, to_usize};

/// QEMU's limit for the number of bitmaps.
const MAX_BITMAPS: u32 = 65535;

/// QEMU's limit for the bitmap directory, in bytes.
const MAX_BITMAP_DIRECTORY: u64 = 65535 * 1024;

/// An extension, whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Which one.
    pub kind: u32,
    /// Where it begins, in the first cluster.
    pub at: HostOffset,
    /// The length of its data in bytes.
    pub length: u64,
}

/// The name of a feature bit, as the image has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureName {
    /// Which set of bits; none if it is not known.
    pub kind: Option<FeatureKind>,
    /// Number of the bit.
    pub bit: u8,
    /// Its name.
    pub name: String,
}

/// Where the bitmap directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitmapsAt {
    /// How many bitmaps there are.
    pub count: u64,
    /// The first byte of the directory, aligned to a cluster.
    pub offset: HostOffset,
    /// Its length in bytes.
    pub length: u64,
}

/// All extensions of an image.
#[derive(Clone, Debug, Default)]
pub struct Extensions {
    /// In the order of the image, those that are not known here too.
    pub all: Vec<Extension>,
    /// The format of the backing file.
    pub backing_format: Option<String>,
    /// The name of the external data file.
    pub data_file: Option<OsString>,
    /// Names of feature bits.
    pub feature_names: Vec<FeatureName>,
    /// Where the bitmaps are.
    pub bitmaps: Option<BitmapsAt>,
    /// Where our checksum table and record are.
    pub ours: Option<OursAt>,
}

impl Extension {
    /// What the specification calls it; none for one that is not known here.
    pub fn name(&self) -> Option<&'static str> {
        match self.kind {
            BACKING_FORMAT => Some("backing file format"),
            FEATURE_NAMES => Some("feature name table"),
            BITMAPS => Some("bitmaps"),
            ENCRYPTION => Some("full disk encryption header"),
            DATA_FILE => Some("external data file"),
            CHECKSUMS => Some("mkqcow2 checksums"),
            _ => None,
        }
    }
}

impl Extensions {
    /// Reads the list in the first cluster of an image. It begins at `start`, and ends with an end mark or at
    /// `end`, where the name of the backing file or the next cluster begins.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if an extension runs over the end, or is not as it should be.
    pub fn parse(first_cluster: &[u8], start: HostOffset, end: u64) -> Result<Self> {
        let mut found = Self::default();
        let area = first_cluster
            .get(..to_usize(end).min(first_cluster.len()))
            .unwrap_or_default();
        let (mut at, end) = (start, to_u64(area.len()));
        while at.0 < end {
            let rest = area.get(to_usize(at.0)..).unwrap_or_default();
            let (raw, data) = RawExtension::read_from_prefix(rest).map_err(|_| cut_off(at, rest, 8))?;
            let length = u64::from(raw.length.get());
            let data = data
                .get(..to_usize(length))
                .ok_or_else(|| cut_off(at, rest, length.plus(8)))?;
            if raw.kind.get() == END {
                break;
            }
            let extension = Extension {
                kind: raw.kind.get(),
                at,
                length,
            };
            found.all.push(extension);
            found.add(extension, data, to_u64(first_cluster.len()))?;
            at = HostOffset(at.0.plus(8).plus(length.next_multiple_of(8)));
        }
        Ok(found)
    }

    /// The name of a feature bit, if the image tells it.
    pub fn feature_name(&self, kind: FeatureKind, bit: u32) -> Option<String> {
        let mut names = self.feature_names.iter();
        names
            .find(|feature| feature.kind == Some(kind) && u32::from(feature.bit) == bit)
            .map(|feature| feature.name.clone())
    }

    fn add(&mut self, extension: Extension, data: &[u8], cluster_size: u64) -> Result<()> {
        match extension.kind {
            BACKING_FORMAT => self.backing_format = Some(text(data)),
            DATA_FILE => self.data_file = Some(OsString::from_vec(until_zero(data).to_vec())),
            FEATURE_NAMES => self.feature_names = feature_names(data),
            BITMAPS => self.bitmaps = Some(bitmaps(extension, data, cluster_size)?),
            CHECKSUMS => self.ours = Some(ours(extension, data, cluster_size)?),
            _ => {}
        }
        Ok(())
    }
}

/// A name that ends with its field, or with the first 0 in it.
fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(until_zero(data)).into_owned()
}

fn until_zero(data: &[u8]) -> &[u8] {
    data.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn feature_names(data: &[u8]) -> Vec<FeatureName> {
    let mut names = Vec::new();
    let mut rest = data;
    while let Ok((raw, behind)) = RawFeatureName::read_from_prefix(rest) {
        names.push(FeatureName {
            kind: match raw.kind {
                0 => Some(FeatureKind::Incompatible),
                1 => Some(FeatureKind::Compatible),
                2 => Some(FeatureKind::Autoclear),
                _ => None,
            },
            bit: raw.bit,
            name: text(&raw.name),
        });
        rest = behind;
    }
    names
}

fn bitmaps(extension: Extension, data: &[u8], cluster_size: u64) -> Result<BitmapsAt> {
    const STRUCTURE: &str = "bitmaps extension";
    let raw: RawBitmaps = whole(STRUCTURE, extension, data)?;
    let (count, length) = (raw.nb_bitmaps.get(), raw.bitmap_directory_size.get());
    let wrong = |field, found, expected| Error::field(STRUCTURE, extension.at, field, found, expected);
    if raw.reserved.get() != 0 {
        return Err(wrong("reserved", raw.reserved.get().into(), Expected::Exactly(0)));
    }
    if count == 0 || count > MAX_BITMAPS {
        let expected = if count == 0 {
            Expected::AtLeast(1)
        } else {
            Expected::AtMost(MAX_BITMAPS.into())
        };
        return Err(wrong("nb_bitmaps", count.into(), expected));
    }
    if length > MAX_BITMAP_DIRECTORY {
        let expected = Expected::AtMost(MAX_BITMAP_DIRECTORY);
        return Err(wrong("bitmap_directory_size", length, expected));
    }
    let offset = raw.bitmap_directory_offset.get();
    if offset == 0 || !offset.is_multiple_of(cluster_size) {
        let expected = Expected::MultipleOf(cluster_size);
        return Err(wrong("bitmap_directory_offset", offset, expected));
    }
    Ok(BitmapsAt {
        count: count.into(),
        offset: HostOffset(offset),
        length,
    })
}

fn ours(extension: Extension, data: &[u8], cluster_size: u64) -> Result<OursAt> {
    const STRUCTURE: &str = "checksum extension";
    let mut padded = [0; size_of::<RawChecksums>()];
    let is_older = data.len() == CHECKSUMS_ONLY;
    let raw: RawChecksums = if is_older {
        padded.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
        whole(STRUCTURE, extension, &padded)?
    } else {
        whole(STRUCTURE, extension, data)?
    };
    let offset = raw.offset.get();
    if !offset.is_multiple_of(cluster_size) {
        let expected = Expected::MultipleOf(cluster_size);
        return Err(Error::field(STRUCTURE, extension.at, "offset", offset, expected));
    }
    Ok(OursAt {
        checksums: ChecksumsAt {
            offset: HostOffset(offset),
            length: raw.length.get(),
        },
        record: (!is_older).then_some(HostOffset(raw.record.get())),
    })
}

/// Data that is one structure, no more and no less.
fn whole<T: FromBytes>(structure: &'static str, extension: Extension, data: &[u8]) -> Result<T> {
    T::read_from_bytes(data).map_err(|_| {
        let expected = Expected::Exactly(to_u64(size_of::<T>()));
        Error::field(structure, extension.at, "length", extension.length, expected)
    })
}

fn cut_off(at: HostOffset, rest: &[u8], expected: u64) -> Error {
    Corrupt::Truncated {
        structure: "header extension",
        at,
        found: to_u64(rest.len()),
        expected,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::qcow2::structures::extension;

    const AT: OursAt = OursAt {
        checksums: ChecksumsAt {
            offset: HostOffset(0x50000),
            length: 77,
        },
        record: Some(HostOffset(0x50100)),
    };

    fn first_cluster() -> Vec<u8> {
        let mut bytes = vec![0; 104];
        extension::append_feature_names(&mut bytes, &[extension::Named::Checksums]);
        extension::append_ours(&mut bytes, AT);
        extension::append_end(&mut bytes);
        bytes.resize(512, 0);
        bytes
    }

    fn failure(bytes: &[u8], start: u64) -> String {
        Extensions::parse(bytes, HostOffset(start), 512)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn an_image_without_ours_has_none() {
        let mut bytes = vec![0; 104];
        extension::append_feature_names(&mut bytes, &[extension::Named::Checksums]);
        bytes.resize(512, 0);
        let found = Extensions::parse(&bytes, HostOffset(104), 512).unwrap();
        assert_eq!((found.ours, found.all.len()), (None, 1));
    }

    #[test]
    fn a_list_that_runs_over_the_end_is_an_error() {
        let mut bytes = first_cluster();
        bytes[108] = 0xff;
        assert_eq!(
            failure(&bytes, 104),
            "header extension at 0x68 does not fit: it needs 4278190136 bytes, 408 are there"
        );
    }

    #[test]
    fn a_list_may_end_where_the_name_of_the_backing_file_begins() {
        let bytes = first_cluster();
        let found = Extensions::parse(&bytes, HostOffset(104), 160).unwrap();
        assert_eq!((found.ours, found.all.len()), (None, 1));
    }

    #[test]
    fn an_unaligned_table_is_an_error() {
        let mut bytes = first_cluster();
        bytes[104 + 56 + 8 + 7] = 1;
        assert_eq!(
            failure(&bytes, 104),
            "checksum extension at 0xa0: offset is 0x50001, expected a multiple of 0x200"
        );
    }
}
