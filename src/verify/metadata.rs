//! The tables among themselves: what a check finds, as far as it was not met while reading.

use super::findings::{Fault, Findings};
use super::verifier::Verifier;
use crate::check::{self, Code, Severity};
use crate::error::{Error, Result};
use crate::formats::Remark;
use crate::formats::qcow2::Freshness;
use crate::formats::qcow2::structures::checksum;
use crate::formats::qcow2::structures::features;
use crate::formats::qcow2::structures::header::AUTOCLEAR_CHECKSUMS;
use crate::units::{Exact, HostOffset, to_u64};

impl Verifier<'_> {
    /// Checks the tables. Returns how many clusters are leaked, if that is no fault: of an image with checksums
    /// it is, because that was made without leaks.
    pub(super) fn metadata(&self, findings: &mut Findings) -> Result<u64> {
        let is_ours = self.image.extensions().ours.is_some();
        // That is what the bit says. If nobody has written to the image, the bit itself is a fault.
        let is_dirty = self.image.header().needs(features::DIRTY);
        let has_table = findings.has_table();
        let is_fault = |code: Code| match code.severity() {
            _ if is_dirty && is_about_refcounts(code) => false,
            Severity::Error => true,
            Severity::Leak => is_ours,
            // The others are for those who want to know more.
            Severity::Remark => code == Code::ChecksumsLost && !has_table,
        };
        let options = check::Options {
            data: false,
            threads: self.options.threads,
        };
        let check = |tell: &mut Tell<'_>| check::check(self.image, &options, self.progress, tell);
        let Some(report) = add_faults(findings, is_fault, check)? else {
            return Ok(0);
        };
        if !is_ours {
            self.find_table(report.image_end, findings)?;
        }
        let leaks = report.count(Severity::Leak);
        Ok(if is_ours { 0 } else { leaks })
    }

    /// Looks whether an image without checksums had some. The footer tells where their table is, or else it lies where
    /// the last cluster ends that is in use, and bit 63 says that they are up to date.
    fn find_table(&self, image_end: HostOffset, findings: &mut Findings) -> Result<()> {
        if let Some(footer) = self.image.footer()? {
            let at = HostOffset(footer.checksums_offset.get());
            findings.add_structure(Fault::TableLost(Some(at)), None);
            return Ok(());
        }
        let mut magic = [0; checksum::MAGIC.len()];
        let file = self.image.file();
        let is_there = file.holds(image_end, to_u64(magic.len())) && {
            file.read_exact(&mut magic, image_end)?;
            magic == checksum::MAGIC
        };
        if is_there || self.image.header().has_autoclear(AUTOCLEAR_CHECKSUMS) {
            findings.add_structure(Fault::TableLost(is_there.then_some(image_end)), None);
        }
        Ok(())
    }

    /// What the image says of itself although nobody has written to it.
    pub(super) fn remarks(&self, findings: &mut Findings) -> Vec<Remark> {
        // The others are about faults that the check finds with their places.
        let remarks = self.image.remarks().filter(|remark| !remark.is_about_unneeded());
        let remarks: Vec<_> = remarks.collect();
        if self.image.freshness() != Freshness::Unchanged {
            return remarks;
        }
        for remark in remarks {
            findings.add_structure(Fault::Remark(remark), None);
        }
        Vec::new()
    }
}

/// Whom a check tells what it finds.
pub(super) type Tell<'a> = dyn FnMut(&check::Finding) + 'a;

/// Adds what a check finds that is a fault, as far as it was not met while reading. None if the tables cannot be read.
pub(super) fn add_faults(
    findings: &mut Findings,
    is_fault: impl Fn(Code) -> bool,
    check: impl FnOnce(&mut Tell<'_>) -> Result<check::Report>,
) -> Result<Option<check::Report>> {
    let mut told = Vec::new();
    let report = check(&mut |finding| {
        if is_fault(finding.code) {
            told.push(finding.clone());
        }
    });
    let report = match report {
        Ok(report) => report,
        Err(error @ Error::Io { .. }) => {
            findings.add_structure(Fault::of(error), None);
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let tallies = report.tallies.iter().filter(|(code, _)| is_fault(**code));
    let all = tallies.fold(0_u64, |sum, (_, tally)| sum.plus(tally.findings));
    let listed = to_u64(told.len());
    for finding in told {
        if !findings.has_met(finding.guest()) {
            findings.add_structure(Fault::Metadata(finding), None);
        }
    }
    findings.add_unlisted_structures(all.minus(listed));
    Ok(Some(report))
}

/// Whether it is found because refcounts are not up to date.
fn is_about_refcounts(code: Code) -> bool {
    matches!(
        code,
        Code::L1Copied | Code::L2Copied | Code::RefcountLow | Code::RefcountOverflow | Code::RefcountHigh
    )
}
