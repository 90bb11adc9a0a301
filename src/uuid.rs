//! What names an image, whatever its file is called.

use std::fmt;

/// The UUID of an image. Spec: RFC 9562, section 5.8, "UUID Version 8".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// The UUID of what has this hash.
    pub fn of(hash: &[u8; 32]) -> Self {
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(hash).for_each(|(to, from)| *to = *from);
        let [.., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
        *version = *version & 0x0f | 0x80;
        *variant = *variant & 0x3f | 0x80;
        Self(bytes)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            if [4, 6, 8, 10].contains(&place) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_of_version_8() {
        let uuid = Uuid::of(&[0xff; 32]);
        assert_eq!(uuid.to_string(), "ffffffff-ffff-8fff-bfff-ffffffffffff");
        assert_eq!(
            Uuid::of(&[0; 32]).to_string(),
            "00000000-0000-8000-8000-000000000000"
        );
    }
}
