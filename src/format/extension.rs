//! Header extensions: the list of them, the feature name table, and ours. Spec: qcow2.txt, "Header extensions".

use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Corrupt, Error, Expected, Result};
use crate::format::header::AUTOCLEAR_CHECKSUMS;
use crate::units::{HostOffset, to_u64, to_usize};

/// Ends the list.
const END: u32 = 0;

/// The feature name table.
const FEATURE_NAMES: u32 = 0x6803_f857;

/// Ours, "mkqc": points to the checksum table.
const CHECKSUMS: u32 = 0x6d6b_7163;

/// The two words in front of the data of every extension, which is padded to a multiple of 8 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawExtension {
    /// 0: which one it is.
    kind: U32,
    /// 4: length of the data in bytes, without these words and without the padding.
    length: U32,
}
const _: () = assert!(size_of::<RawExtension>() == 8);

/// One entry of the feature name table.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawFeatureName {
    /// 0: 0 incompatible, 1 compatible, 2 autoclear.
    kind: u8,
    /// 1: number of the bit.
    bit: u8,
    /// 2: its name, padded with zeros.
    name: [u8; 46],
}
const _: () = assert!(size_of::<RawFeatureName>() == 48);

/// The data of our extension.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawChecksums {
    /// 0: host offset of the checksum table in bytes, aligned to a cluster.
    offset: U64,
    /// 8: length of the checksum table in bytes.
    length: U64,
}
const _: () = assert!(size_of::<RawChecksums>() == 16);

/// Where the checksum table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChecksumsAt {
    /// Its first byte, aligned to a cluster.
    pub offset: HostOffset,
    /// Its length in bytes.
    pub length: u64,
}

/// Appends an extension to a header.
fn append(header: &mut Vec<u8>, kind: u32, data: &[u8]) {
    let length = u32::try_from(data.len()).expect("what this module writes is shorter than 100 bytes");
    header.extend(
        RawExtension {
            kind: kind.into(),
            length: length.into(),
        }
        .as_bytes(),
    );
    header.extend(data);
    header.resize(header.len().next_multiple_of(8), 0);
}

/// Appends the names of the features that are ours, for programs that meet them.
pub fn append_feature_names(header: &mut Vec<u8>) {
    const NAME: &[u8; 17] = b"mkqcow2 checksums";
    const BIT: u8 = 63;
    const _: () = assert!(AUTOCLEAR_CHECKSUMS == 63, "the bit that is named");
    let mut name = [0; 46];
    for (to, from) in name.iter_mut().zip(NAME) {
        *to = *from;
    }
    append(
        header,
        FEATURE_NAMES,
        RawFeatureName {
            kind: 2,
            bit: BIT,
            name,
        }
        .as_bytes(),
    );
}

/// Appends our extension.
pub fn append_checksums(header: &mut Vec<u8>, at: ChecksumsAt) {
    let raw = RawChecksums {
        offset: at.offset.0.into(),
        length: at.length.into(),
    };
    append(header, CHECKSUMS, raw.as_bytes());
}

/// Appends the end of the list.
pub fn append_end(header: &mut Vec<u8>) {
    append(header, END, &[]);
}

/// Finds our extension in the first cluster of an image, whose extensions begin at `start`.
///
/// # Errors
///
/// [`Error::Corrupt`] if the list runs over the end of `first_cluster`, or ours is not of its length or points
/// to a place that is not aligned to a cluster.
pub fn find_checksums(first_cluster: &[u8], start: HostOffset) -> Result<Option<ChecksumsAt>> {
    let mut at = start;
    loop {
        let (raw, data) = first_cluster
            .get(to_usize(at.0)..)
            .and_then(|rest| RawExtension::read_from_prefix(rest).ok())
            .ok_or_else(|| cut_off(first_cluster, at, 8))?;
        let length = u64::from(raw.length.get());
        match raw.kind.get() {
            END => return Ok(None),
            CHECKSUMS => return parse_checksums(first_cluster, at, length, data).map(Some),
            _ if length > to_u64(data.len()) => {
                return Err(cut_off(first_cluster, at, length.saturating_add(8)));
            }
            _ => at = HostOffset(at.0.saturating_add(8).saturating_add(length.next_multiple_of(8))),
        }
    }
}

fn parse_checksums(first_cluster: &[u8], at: HostOffset, length: u64, data: &[u8]) -> Result<ChecksumsAt> {
    let wrong = |field, found, expected| -> Error {
        Corrupt::Field {
            structure: "checksum extension",
            at,
            field,
            found,
            expected,
        }
        .into()
    };
    let size = to_u64(size_of::<RawChecksums>());
    if length != size {
        return Err(wrong("length", length, Expected::Exactly(size)));
    }
    let (raw, _) = RawChecksums::read_from_prefix(data)
        .map_err(|_| cut_off(first_cluster, at, size.saturating_add(8)))?;
    let (offset, cluster_size) = (raw.offset.get(), to_u64(first_cluster.len()));
    if !offset.is_multiple_of(cluster_size) {
        return Err(wrong("offset", offset, Expected::MultipleOf(cluster_size)));
    }
    Ok(ChecksumsAt {
        offset: HostOffset(offset),
        length: raw.length.get(),
    })
}

fn cut_off(first_cluster: &[u8], at: HostOffset, expected: u64) -> Error {
    let found = to_u64(first_cluster.len()).saturating_sub(at.0);
    Corrupt::Truncated {
        structure: "header extension",
        at,
        found,
        expected,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: ChecksumsAt = ChecksumsAt {
        offset: HostOffset(0x50000),
        length: 77,
    };

    fn first_cluster() -> Vec<u8> {
        let mut bytes = vec![0; 104];
        append_feature_names(&mut bytes);
        append_checksums(&mut bytes, AT);
        append_end(&mut bytes);
        bytes.resize(512, 0);
        bytes
    }

    #[test]
    fn what_was_appended_is_found_again() {
        assert_eq!(
            find_checksums(&first_cluster(), HostOffset(104)).unwrap(),
            Some(AT)
        );
    }

    #[test]
    fn an_image_without_ours_has_none() {
        let mut bytes = vec![0; 104];
        append_feature_names(&mut bytes);
        bytes.resize(512, 0);
        assert_eq!(find_checksums(&bytes, HostOffset(104)).unwrap(), None);
    }

    #[test]
    fn a_list_that_runs_over_the_end_is_an_error() {
        let mut bytes = first_cluster();
        bytes[108] = 0xff;
        let message = find_checksums(&bytes, HostOffset(104)).unwrap_err().to_string();
        assert_eq!(
            message,
            "header extension at 0x68 does not fit: it needs 4278190136 bytes, 408 are there"
        );
        assert!(find_checksums(&bytes, HostOffset(600)).is_err());
    }

    #[test]
    fn an_unaligned_table_is_an_error() {
        let mut bytes = first_cluster();
        bytes[104 + 56 + 8 + 7] = 1;
        let message = find_checksums(&bytes, HostOffset(104)).unwrap_err().to_string();
        assert_eq!(
            message,
            "checksum extension at 0xa0: offset is 0x50001, expected a multiple of 0x200"
        );
    }
}
