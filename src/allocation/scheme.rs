//! What tells which bytes are in use: a partition table, a filesystem. One file a scheme, one line here.

use std::ops::Range;

use super::answer::{self, Answer};
use super::doubt::Doubt;
use super::map::AllocationMap;
use super::region::Missing;
use super::view::View;

/// A format that can be recognised.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scheme {
    /// What it is called until more is known.
    pub(super) name: &'static str,
    /// Whether a stretch begins like it: cheap, and wrong at most where something looks the same.
    pub(super) is: fn(View<'_>) -> Answer,
    /// What it says of the stretch.
    pub(super) read: fn(View<'_>) -> Result<Found, Doubt>,
}

/// What a scheme says of a stretch.
#[derive(Debug)]
pub(super) struct Found {
    /// Its name.
    pub(super) name: &'static str,
    /// The name that its owner gave it.
    pub(super) label: Option<String>,
    /// What of it is in use.
    pub(super) content: Content,
}

/// What of a stretch is in use.
#[derive(Debug)]
pub(super) enum Content {
    /// What lies outside of these parts, and what of them turns out to be. They may come in any order.
    Parts(Vec<Part>),
    /// What this map says, and what lies behind its end.
    Mapped(AllocationMap),
    /// The same, and what of this its own map leaves out.
    Corrected(AllocationMap, Missing),
    /// All of it: what is free in this format is not known here.
    Opaque,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Its bytes, as offsets in the stretch that the table is about.
    pub(super) range: Range<u64>,
    /// The number that the kernel gives it.
    pub(super) number: u32,
    /// The name that its owner gave it.
    pub(super) label: Option<String>,
}

/// Those that are looked for in a whole disk.
pub(super) const TABLES: &[Scheme] = &[super::partitions::SCHEME];

/// Those that are looked for in a whole disk and in each partition.
pub(super) const FILESYSTEMS: &[Scheme] = &[
    super::exfat::SCHEME,
    super::ext::SCHEME,
    super::fat::SCHEME,
    super::swap::SCHEME,
];

/// Whether a stretch looks like anything that is known, other than a table.
pub(super) fn is_anything(view: View<'_>) -> Answer {
    let schemes = FILESYSTEMS.iter().map(|scheme| (scheme.is)(view));
    let is_opaque = std::iter::once_with(|| Ok(super::opaque::name(view)?.is_some()));
    answer::any(schemes.chain(is_opaque))
}
