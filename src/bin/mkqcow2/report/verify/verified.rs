//! One of the images that were verified.

use std::path::Path;

use super::words;
use crate::report::places;
use crate::status::FAILURE;
use mkqcow2::Access;
use mkqcow2::formats::Format;
use mkqcow2::verify::Report;
use mkqcow2::volumes::Places;

/// The image is not what was written.
pub(crate) const DAMAGE: u8 = 2;

/// What came of one image.
pub(super) struct Verified<'a> {
    pub(super) path: &'a Path,
    pub(super) report: &'a Report,
    pub(super) status: u8,
    pub(super) warnings: Vec<String>,
    /// What is recognised on its disk, if that tells where damage is.
    pub(super) places: Option<Places>,
}

impl<'a> Verified<'a> {
    pub(super) fn new(path: &'a Path, report: &'a Report, has_base: bool, format: Option<Format>) -> Self {
        let has_findings = !report.findings.is_empty();
        Self {
            path,
            report,
            status: status(report),
            warnings: words::warnings(report, has_base).collect(),
            places: has_findings
                .then(|| places::of_image(path, format, Access::default()))
                .flatten(),
        }
    }
}

fn status(report: &Report) -> u8 {
    if report.findings.is_empty() {
        0
    } else if report.findings.is_unreadable_only() {
        FAILURE
    } else {
        DAMAGE
    }
}
