//! What has the same words for people and for scripts.

use std::fmt::Write as _;

use mkqcow2::formats::qcow2::structures::digest::Digest;
use mkqcow2::formats::qcow2::structures::features::FeatureKind;
use mkqcow2::formats::qcow2::structures::header::Encryption;
use mkqcow2::formats::qcow2::{Freshness, Image};
use mkqcow2::info::{ChecksumTable, Info};

/// What is worth knowing, but no fault.
pub(super) fn warnings(info: &Info) -> impl Iterator<Item = String> {
    let lost = match &info.checksums {
        ChecksumTable::Lost(error) => Some(format!(
            "the checksums are lost, {}: {error}",
            match info.image().freshness() {
                Freshness::Unknown | Freshness::Doubtful => "damaged or overwritten since the image was made",
                Freshness::Changed | Freshness::Unchanged => "the image was written to since it was made",
            }
        )),
        ChecksumTable::None | ChecksumTable::Whole(_) | ChecksumTable::Damaged => None,
    };
    let remarks = info.image().remarks().map(|remark| remark.to_string());
    remarks.chain(lost)
}

/// How the disk is encrypted.
pub(super) fn encryption(image: &Image) -> Option<&'static str> {
    image.header().encryption().map(|encryption| match encryption {
        Encryption::Aes => "AES",
        Encryption::Luks => "LUKS",
    })
}

/// What a program may do that does not know a feature.
pub(super) fn kind(kind: FeatureKind) -> &'static str {
    match kind {
        FeatureKind::Incompatible => "incompatible",
        FeatureKind::Compatible => "compatible",
        FeatureKind::Autoclear => "autoclear",
    }
}

/// A digest as it is written.
pub(super) fn hex(digest: &Digest) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        // Never fails: it is a string.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
