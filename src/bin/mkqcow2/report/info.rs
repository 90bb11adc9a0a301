//! What `mkqcow2 info` tells.

mod date;
mod json;
mod legacy;
mod text;
mod words;

use std::process::ExitCode;

use super::{answer, with_causes};
use crate::args::info::Info as Args;
use crate::console::say_of;
use crate::status::FAILURE;
use mkqcow2::formats::Bases;
use mkqcow2::info::{Info, LegacyInfo};

/// All of it; what could not be read on standard error.
pub(crate) fn info(args: &Args, info: &Info, bases: &Bases) -> ExitCode {
    for warning in words::warnings(info) {
        say_of(&args.image, &format!("warning: {warning}"));
    }
    for fault in &info.faults {
        say_of(&args.image, &with_causes(fault));
    }
    // It is no fault of this image.
    if let Some(fault) = &bases.fault {
        let (error, path) = fault.innermost();
        say_of(
            path.unwrap_or(&args.image),
            &format!("warning: {}", with_causes(error)),
        );
    }
    let status = if info.faults.is_empty() { 0 } else { FAILURE };
    answer::<Args>(status, |out| {
        if args.json.json {
            json::info(out, args, (info, bases), status)
        } else {
            text::info(out, args, info, bases)
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
