//! A section of a disk: where it begins, and how long it is.

use crate::error::Invalid;
use crate::units::SECTOR;

/// Which part of a disk is wanted, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Where it begins, a multiple of 512.
    pub offset: u64,
    /// How long it is, a multiple of 512; all the rest if not given.
    pub length: Option<u64>,
}

impl Section {
    /// Offset and length of the part in a disk of `size` bytes.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if it lies outside, or is not aligned to sectors.
    pub(crate) fn within(self, size: u64) -> Result<(u64, u64), Invalid> {
        let Self { offset, length } = self;
        for (what, found) in [("offset", Some(offset)), ("length", length)] {
            if let Some(found) = found.filter(|found| !found.is_multiple_of(SECTOR)) {
                return Err(Invalid::Unaligned { what, found });
            }
        }
        // The first test holds for an empty source too, but says less.
        let rest = size.checked_sub(offset).filter(|rest| *rest > 0);
        let rest = rest.ok_or(Invalid::OffsetPastEnd { offset, size })?;
        match length {
            None => Ok((offset, rest)),
            Some(0) => Err(Invalid::LengthZero),
            Some(length) if length > rest.next_multiple_of(SECTOR) => Err(Invalid::LengthPastEnd {
                offset,
                length,
                size: size.next_multiple_of(SECTOR),
            }),
            Some(length) => Ok((offset, length.min(rest))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(offset: u64, length: Option<u64>) -> Result<(u64, u64), String> {
        Section { offset, length }
            .within(2000)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_part_may_end_with_the_padded_last_sector() {
        assert_eq!(within(0, None), Ok((0, 2000)));
        assert_eq!(within(512, Some(512)), Ok((512, 512)));
        assert_eq!(within(512, Some(1536)), Ok((512, 1488)));
    }

    #[test]
    fn a_part_outside_or_between_sectors_is_refused() {
        for (offset, length, says) in [
            (100, None, "offset is 100, expected a multiple of 512"),
            (0, Some(100), "length is 100, expected a multiple of 512"),
            (2048, None, "offset is 2048, expected less than the size, 2000"),
            (0, Some(0), "length is 0, there is nothing to image"),
            (
                512,
                Some(2048),
                "offset 512 and length 2048 reach past the end of the source, at 2048",
            ),
            (
                512,
                Some(u64::MAX - 511),
                "offset 512 and length 18446744073709551104 reach past the end of the source, at 2048",
            ),
        ] {
            assert_eq!(within(offset, length), Err(says.to_owned()));
        }
    }
}
