//! What a plan tells, in the same words for people and for scripts.

use crate::report::regions::Because;
use mkqcow2::volumes::Piece;
use mkqcow2::{Plan, Warning};

/// A warning before a run, and what that would take.
pub(super) fn warning(plan: &Plan<'_>, warning: &Warning) -> String {
    let is_use = matches!(
        warning,
        Warning::SourceInUse(_) | Warning::ImageInUse(_) | Warning::TargetPerhapsInUse(_)
    );
    let more = if is_use && plan.needs_force {
        " (the run itself needs --force)"
    } else {
        ""
    };
    format!("{}{more}", warning.planned())
}

/// Why a piece of the source is in use, or free.
pub(super) fn because<'a>(plan: &'a Plan<'_>, piece: &Piece) -> Because<'a> {
    Because {
        state: piece.state,
        reason: piece.reason,
        region: piece
            .region
            .and_then(|region| plan.allocation.regions.get(region)),
    }
}
