//! Exit statuses.

/// What was asked for could not be done.
pub(crate) const FAILURE: u8 = 1;

/// It was written, but not all is well.
pub(crate) const WARNING: u8 = 3;

/// Bad usage, as sysexits(3) has it.
pub(crate) const USAGE: u8 = 64;
