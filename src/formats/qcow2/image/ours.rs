//! Where the tables are that no other program knows: the header says so, and the footer says it once more.

use zerocopy::{FromZeros, IntoBytes};

use crate::error::{Error, Expected, Result};
use crate::formats::qcow2::Image;
use crate::formats::qcow2::structures::extension::OursAt;
use crate::formats::qcow2::structures::header::AUTOCLEAR_CHECKSUMS;
use crate::formats::qcow2::structures::record::RawFooter;
use crate::units::{HostOffset, to_u64};

/// Holds fields of a structure at `at` to what they must be: name, found, expected.
pub(super) fn exactly(
    structure: &'static str,
    at: HostOffset,
    fields: &[(&'static str, u64, u64)],
) -> Result<()> {
    match fields.iter().find(|(_, found, expected)| found != expected) {
        Some((field, found, expected)) => Err(Error::field(
            structure,
            at,
            field,
            *found,
            Expected::Exactly(*expected),
        )),
        None => Ok(()),
    }
}

impl Image {
    /// Where the checksum table and the record are, if the image has any.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if the header does not tell, although autoclear bit 63 or the footer says that there are
    ///   some; or if header and footer disagree.
    /// - [`Error::Io`] if the footer cannot be read.
    pub fn ours(&self) -> Result<Option<OursAt>> {
        const HEADER: &str = "header";
        let wrong = |field, found, expected| Err(Error::field(HEADER, HostOffset(0), field, found, expected));
        match (self.extensions.ours, self.footer()?) {
            (Some(ours), None) => Ok(Some(ours)),
            (Some(ours), Some(footer)) => {
                let of_header = RawFooter::new(ours);
                for (field, found, expected) in [
                    (
                        "checksum table offset",
                        of_header.checksums_offset,
                        footer.checksums_offset,
                    ),
                    (
                        "checksum table length",
                        of_header.checksums_length,
                        footer.checksums_length,
                    ),
                    ("record offset", of_header.record_offset, footer.record_offset),
                ] {
                    if found != expected {
                        let expected = Expected::AsFooter(expected.get());
                        return wrong(field, found.get(), expected);
                    }
                }
                Ok(Some(ours))
            }
            (None, Some(footer)) => {
                let expected = Expected::AsFooter(footer.checksums_offset.get());
                wrong("checksum table offset", 0, expected)
            }
            (None, None) if self.header.has_autoclear(AUTOCLEAR_CHECKSUMS) => {
                let expected =
                    Expected::That("bit 63 clear, because no extension tells where the checksum table is");
                wrong("autoclear_features", self.header.features().autoclear, expected)
            }
            (None, None) => Ok(None),
        }
    }

    /// The footer, if the file ends with a whole one.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be read.
    pub(crate) fn footer(&self) -> Result<Option<RawFooter>> {
        let mut footer = RawFooter::new_zeroed();
        let at = self
            .file
            .length()
            .checked_sub(to_u64(size_of::<RawFooter>()))
            .filter(|at| *at >= self.header.geometry().cluster_size());
        let Some(at) = at else {
            return Ok(None);
        };
        self.file.read_exact(footer.as_mut_bytes(), HostOffset(at))?;
        Ok(footer.is_right().then_some(footer))
    }
}
