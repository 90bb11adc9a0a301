//! What tells which bytes are in use: a partition table, a filesystem.

use super::answer::Answer;
use super::doubt::Doubt;
use super::map::AllocationMap;
use super::region::Missing;
use super::segments::Segments;
use super::view::View;

/// A format that can be recognised.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scheme {
    /// What it is called until more is known.
    pub(super) name: &'static str,
    /// Whether a stretch begins like it: cheap, and wrong at most where something looks the same.
    pub(super) is: fn(View<'_>) -> Answer,
    /// What it says of the stretch.
    pub(super) read: Read,
}

/// Whether a stretch looks like anything that is known, other than a table.
pub(super) type Recognise = fn(View<'_>) -> Answer;

/// How a scheme is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Read {
    /// By what it says alone.
    Alone(fn(View<'_>) -> Result<Found, Doubt>),
    /// With regard to what else is recognised there.
    Among(fn(View<'_>, Recognise) -> Result<Found, Doubt>),
}

/// What a scheme says of a stretch.
#[derive(Debug)]
pub(super) struct Found {
    /// Its name.
    pub(super) name: &'static str,
    /// The name that its owner gave it.
    pub(super) label: Option<String>,
    /// What of it is in use.
    pub(super) content: Usage,
}

/// What of a stretch is in use.
#[derive(Debug)]
pub(super) enum Usage {
    /// What lies outside of these volumes, and what of them turns out to be. They may come in any order.
    Volumes(Vec<Volume>),
    /// What this map says, and what lies behind its end.
    Mapped(AllocationMap),
    /// The same, and what of this its own map leaves out.
    Corrected(AllocationMap, Missing),
    /// All of it: what is free in this format is not known here.
    Opaque,
}

/// A partition, or another part of what holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Volume {
    /// Its bytes, as those of what holds it.
    pub(super) segments: Segments,
    /// The number that the kernel gives it.
    pub(super) number: u32,
    /// The name that its owner gave it.
    pub(super) label: Option<String>,
}
