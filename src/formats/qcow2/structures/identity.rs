//! Which image it is, and which one it stands on: two sections of the [record](super::record).
//!
//! ```text
//! identity   UUID of the image (16), digest of the disk (32) if its clusters have digests
//! base       UUID of the backing file (16), size of its disk in bytes (8), digest of its disk (32) if it has one
//! ```
//!
//! The UUID is made of what the image records: of its checksum table, and of all other sections. An image with the
//! same UUID has the same disk, and is of the same source and time.

use std::array::TryFromSliceError;

use super::digest::Digest;
use crate::uuid::Uuid;

/// Which image it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its UUID.
    pub uuid: Uuid,
    /// The digest of the disk, if it was computed.
    pub disk: Option<Digest>,
}

impl Identity {
    /// The data of the section.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.uuid.0.to_vec();
        bytes.extend(self.disk.iter().flatten());
        bytes
    }

    /// What the data of a section says; none if it has another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (uuid, rest) = bytes.split_first_chunk()?;
        Some(Self {
            uuid: Uuid(*uuid),
            disk: digest(rest).ok()?,
        })
    }

    /// How long the section is, in bytes.
    pub fn length(has_digest: bool) -> u64 {
        if has_digest { 48 } else { 16 }
    }
}

/// Which image an image stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseIdentity {
    /// Which one it is.
    pub identity: Identity,
    /// The size of its disk in bytes.
    pub size: u64,
}

impl BaseIdentity {
    /// The data of the section.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.identity.uuid.0.to_vec();
        bytes.extend(self.size.to_be_bytes());
        bytes.extend(self.identity.disk.iter().flatten());
        bytes
    }

    /// What the data of a section says; none if it has another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (uuid, rest) = bytes.split_first_chunk()?;
        let (size, rest) = rest.split_first_chunk()?;
        Some(Self {
            identity: Identity {
                uuid: Uuid(*uuid),
                disk: digest(rest).ok()?,
            },
            size: u64::from_be_bytes(*size),
        })
    }
}

/// All of `bytes` is a digest, or there is none.
fn digest(bytes: &[u8]) -> Result<Option<Digest>, TryFromSliceError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    Digest::try_from(bytes).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_come_back() {
        let uuid = Uuid::of(&[0xff; 32]);
        for disk in [None, Some([7; 32])] {
            let identity = Identity { uuid, disk };
            let bytes = identity.to_bytes();
            assert_eq!(
                bytes.len(),
                usize::try_from(Identity::length(disk.is_some())).unwrap()
            );
            assert_eq!(Identity::from_bytes(&bytes), Some(identity));
            assert_eq!(Identity::from_bytes(&bytes[1..]), None);
            let base = BaseIdentity {
                identity,
                size: 1 << 40,
            };
            let bytes = base.to_bytes();
            assert_eq!(BaseIdentity::from_bytes(&bytes), Some(base));
            assert_eq!(BaseIdentity::from_bytes(&bytes[..bytes.len() - 1]), None);
        }
    }
}
