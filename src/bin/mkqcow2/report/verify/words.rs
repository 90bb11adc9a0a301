//! What has the same words for people and for scripts.

use mkqcow2::error::Role;
use mkqcow2::formats::qcow2::Freshness;
use mkqcow2::verify::Report;

/// What is worth knowing, but no fault. An image behind it may have been verified, too.
pub(super) fn warnings(report: &Report, has_base: bool) -> impl Iterator<Item = String> {
    let is_changed = report.compared.is_some() && report.freshness == Freshness::Changed;
    let changed = "the image was opened for writing since it was made: differences may be changes";
    let remarks = report.remarks.iter().map(ToString::to_string);
    let leaks = format!(
        "{} clusters of the file are wasted, see mkqcow2 check",
        report.leaks
    );
    let elsewhere = report.elsewhere.iter();
    let elsewhere = elsewhere.filter(move |role| !has_base || **role != Role::Backing);
    let elsewhere =
        elsewhere.map(|role| format!("the rest of the disk is in its {role}, which was not read"));
    let resized = "resized by another program since it was made: its checksums no longer count";
    remarks
        .chain(report.is_resized.then(|| resized.to_owned()))
        .chain(elsewhere)
        .chain(is_changed.then(|| changed.to_owned()))
        .chain((report.leaks > 0).then_some(leaks))
}
