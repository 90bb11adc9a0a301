//! What `mkqcow2 info` tells.

mod date;
mod json;
mod legacy;
mod text;

use std::process::ExitCode;

use super::{FAILURE, answer, with_causes};
use crate::args::info::Info as Args;
use crate::console::say_of;
use mkqcow2::formats::qcow2::structures::features::FeatureKind;
use mkqcow2::formats::qcow2::structures::header::Encryption;
use mkqcow2::formats::qcow2::{Freshness, Image};
use mkqcow2::info::{ChecksumTable, Info, LegacyInfo};

/// All of it; what could not be read on standard error.
pub(crate) fn info(args: &Args, info: &Info) -> ExitCode {
    for warning in warnings(info) {
        say_of(&args.image, &format!("warning: {warning}"));
    }
    for fault in &info.faults {
        say_of(&args.image, &with_causes(fault));
    }
    let status = if info.faults.is_empty() { 0 } else { FAILURE };
    answer::<Args>(status, |out| {
        if args.json.json {
            json::info(out, args, info, status)
        } else {
            text::info(out, args, info)
        }
    })
}

/// The same of QCOW version 1 and QED.
pub(crate) fn plain(args: &Args, info: &LegacyInfo) -> ExitCode {
    if let Some(remark) = legacy::warning(info) {
        say_of(&args.image, &format!("warning: {remark}"));
    }
    if let Some(fault) = &info.fault {
        say_of(&args.image, &with_causes(fault));
    }
    let status = if info.fault.is_none() { 0 } else { FAILURE };
    answer::<Args>(status, |out| {
        if args.json.json {
            legacy::json(out, args, info, status)
        } else {
            legacy::text(out, args, info)
        }
    })
}

/// What is worth knowing, but no fault.
fn warnings(info: &Info) -> impl Iterator<Item = String> {
    let lost = match &info.checksums {
        ChecksumTable::Lost(error) => Some(format!(
            "the checksums are lost, {}: {error}",
            match info.image().freshness() {
                Freshness::Unknown => "damaged or overwritten since the image was made",
                Freshness::Changed | Freshness::Unchanged => "the image was written to since it was made",
            }
        )),
        ChecksumTable::None | ChecksumTable::Whole(_) | ChecksumTable::Damaged => None,
    };
    let remarks = info.image().remarks().map(|remark| remark.to_string());
    remarks.chain(lost)
}

fn encryption(image: &Image) -> Option<&'static str> {
    image.header().encryption().map(|encryption| match encryption {
        Encryption::Aes => "AES",
        Encryption::Luks => "LUKS",
    })
}

fn kind(kind: FeatureKind) -> &'static str {
    match kind {
        FeatureKind::Incompatible => "incompatible",
        FeatureKind::Compatible => "compatible",
        FeatureKind::Autoclear => "autoclear",
    }
}
