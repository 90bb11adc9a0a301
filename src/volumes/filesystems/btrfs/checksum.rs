//! Checksums of the superblock and of tree blocks. Source: Linux, `fs/btrfs/fs.c`, `btrfs_csums`.

use blake2::Blake2b;
use blake2::digest::consts::U32;
use sha2::{Digest, Sha256};
use twox_hash::XxHash64;

use crate::volumes::crc32c::crc32c;
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::u32_le;
use crate::volumes::view::View;

/// How much of a structure holds its checksum, and is not in it: the longest there is.
const FIELD: usize = 32;

/// Which checksum a filesystem has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Crc32c,
    Xxhash64,
    Sha256,
    Blake2b,
}

impl Kind {
    /// By its number in the superblock.
    pub(super) fn numbered(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Crc32c,
            1 => Self::Xxhash64,
            2 => Self::Sha256,
            3 => Self::Blake2b,
            _ => return None,
        })
    }

    /// How long one is, in bytes.
    pub(super) fn size(self) -> usize {
        match self {
            Self::Crc32c => 4,
            Self::Xxhash64 => 8,
            Self::Sha256 | Self::Blake2b => 32,
        }
    }

    /// The checksum of some bytes.
    fn sum(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Crc32c => (!crc32c(u32::MAX, bytes)).to_le_bytes().to_vec(),
            Self::Xxhash64 => XxHash64::oneshot(0, bytes).to_le_bytes().to_vec(),
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Blake2b => Blake2b::<U32>::digest(bytes).to_vec(),
        }
    }

    /// Makes sure that a structure, which begins at `at`, has its checksum at its beginning. Of a long one, the doubt
    /// shows the first 32 bits that differ.
    pub(super) fn check(
        self,
        view: View<'_>,
        structure: &'static str,
        at: u64,
        bytes: &[u8],
    ) -> Result<(), Doubt> {
        let (field, rest) = bytes.split_at_checked(FIELD).unwrap_or((bytes, &[]));
        let sum = self.sum(rest);
        if field.starts_with(&sum) {
            return Ok(());
        }
        let words = (0..sum.len()).step_by(4);
        let pairs = words.map(|word| (u32_le(field, word), u32_le(&sum, word)));
        let (found, expected) = pairs
            .into_iter()
            .find(|(found, expected)| found != expected)
            .unwrap_or_default();
        Err(Doubt::Checksum {
            structure,
            at: view.position(at),
            found,
            expected,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }

    #[test]
    fn each_checksum_is_that_of_its_specification() {
        let sum = |number| hex(&Kind::numbered(number).unwrap().sum(b"abc"));
        assert_eq!(sum(0), "b73f4b36");
        assert_eq!(sum(1), "990977adf52cbc44");
        assert_eq!(
            sum(2),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            sum(3),
            "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"
        );
        assert_eq!(Kind::numbered(4), None);
        for kind in (0..4).filter_map(Kind::numbered) {
            assert_eq!(kind.size(), kind.sum(b"abc").len());
        }
    }
}
