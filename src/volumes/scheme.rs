//! What tells which bytes are in use: a partition table, a filesystem.

use std::ops::Range;

use super::answer::Answer;
use super::doubt::Doubt;
use super::map::AllocationMap;
use super::region::{Detail, Missing, Part};
use super::renewal::Renew;
use super::view::View;
use crate::disk::Segments;

/// A format that can be recognised.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scheme {
    /// What it is called until more is known.
    pub(super) name: &'static str,
    /// Whether a stretch begins like it: cheap, and wrong at most where something looks the same.
    pub(super) is: fn(View<'_>) -> Answer,
    /// What it says of the stretch.
    pub(super) read: Read,
    /// Its name and label, without a look at its map; none where to read it is as cheap.
    pub(super) glance: Option<fn(View<'_>) -> Result<Found, Doubt>>,
    /// What gives it new identifiers, if that is known here.
    pub(super) renew: Option<Renew>,
    /// The command of its own tools that does so.
    pub(super) tool: &'static str,
}

/// What is read of a format that is recognised by its signature, see `opaque`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    /// The name of the format there.
    pub(super) name: &'static str,
    /// What it says of the stretch.
    pub(super) read: fn(View<'_>) -> Result<Found, Doubt>,
    /// The command of its own tools that gives it new identifiers, if there is one.
    pub(super) tool: Option<&'static str>,
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
    /// What else tells it apart.
    pub(super) details: Vec<Detail>,
    /// What of it is in use.
    pub(super) content: Usage,
}

impl Found {
    /// Something that is told by its name alone.
    pub(super) fn named(name: &'static str, content: Usage) -> Self {
        Self {
            name,
            label: None,
            details: Vec::new(),
            content,
        }
    }
}

/// What of a stretch is in use.
#[derive(Debug)]
pub(super) enum Usage {
    /// What lies outside of these partitions, and what of them turns out to be. They may come in any order.
    Partitions(Vec<Volume>),
    /// The same of other volumes, but for what is free for new ones.
    Group(Group),
    /// What this map says, and what lies behind its end.
    Mapped(AllocationMap),
    /// The same, and what of this its own map leaves out.
    Corrected(AllocationMap, Missing),
    /// All of it: what is free in this format is not known here.
    Opaque,
    /// All of it, for this reason.
    Whole(String),
    /// All of it: what tells what is in use cannot be trusted.
    Doubted(Doubt),
}

/// Volumes that are no partitions.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) volumes: Vec<Volume>,
    /// What is in none of them, and free for new ones.
    pub(super) free: Vec<Range<u64>>,
}

/// What of a volume is in use.
#[derive(Debug)]
pub(super) enum Content {
    /// That is to be found out.
    Unknown,
    /// All of it, for this reason, whatever it holds.
    Whole(String),
    /// What a map says that belongs to what holds it; and what that calls the content.
    Mapped(&'static str, Result<AllocationMap, Doubt>),
}

/// A partition, or another part of what holds it.
#[derive(Debug)]
pub(super) struct Volume {
    /// Its bytes, as those of what holds it.
    pub(super) segments: Segments,
    /// Whether these are all of it, in the order of its bytes.
    pub(super) is_complete: bool,
    /// Which one it is.
    pub(super) part: Part,
    /// What else tells it apart.
    pub(super) details: Vec<Detail>,
    /// What of it is in use.
    pub(super) content: Content,
}
