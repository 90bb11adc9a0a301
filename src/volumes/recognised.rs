//! By what a volume is recognised.

use super::answer;
use super::containers::{md, partitions};
use super::doubt::Doubt;
use super::opaque;
use super::region::Detail;
use super::registry::{FILESYSTEMS, READERS, TABLES, is_anything};
use super::scheme::{Found, Read, Scheme, Usage};
use super::view::View;

/// How much is read of what is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// All that tells what is in use.
    Maps,
    /// Tables, superblocks and what tells of volumes.
    Names,
}

/// What a scheme says of a stretch.
fn read(scheme: &Scheme, view: View<'_>, depth: Depth) -> Result<Found, Doubt> {
    match (scheme.read, scheme.glance.filter(|_| depth == Depth::Names)) {
        (_, Some(glance)) => glance(view),
        (Read::Alone(read), None) => read(view),
        (Read::Among(read), None) => read(view, is_anything),
    }
}

/// What a stretch was recognised as, if anything.
#[derive(Debug)]
pub(super) struct Recognised {
    pub(super) name: Option<&'static str>,
    pub(super) label: Option<String>,
    pub(super) details: Vec<Detail>,
    pub(super) content: Result<Usage, Doubt>,
}

impl Recognised {
    /// Of all of a source.
    pub(super) fn of_disk(view: View<'_>, depth: Depth) -> Self {
        if let Some(mirror) = Self::around(view) {
            return mirror;
        }
        let schemes = TABLES.iter().chain(FILESYSTEMS);
        Self::among(
            schemes,
            (view, depth),
            opaque::name(view).or_else(|doubt| {
                // What a table proves to be its own is the signature of nothing else.
                match partitions::proven(view) {
                    Some(own) => opaque::name_but(view, own),
                    None => Err(doubt),
                }
            }),
        )
    }

    /// Of a volume of it. A table in it is not followed, but may be what is in use rather than a filesystem.
    pub(super) fn of_volume(view: View<'_>, depth: Depth) -> Self {
        if let Some(mirror) = Self::around(view) {
            return mirror;
        }
        let table = answer::first(TABLES, |scheme| (scheme.is)(view));
        let recognised = Self::among(FILESYSTEMS.iter(), (view, depth), opaque::name(view));
        match (table, recognised.name) {
            // Where a table cannot be read, much else cannot either: that is in doubt already, or known for sure.
            (Ok(None) | Err(_), _) => recognised,
            (Ok(Some(table)), Some(name)) => Self::doubted(None, Doubt::Ambiguous(table.name, name)),
            (Ok(Some(table)), None) => Self {
                name: Some(table.name),
                ..recognised
            },
        }
    }

    /// By which of some schemes, or as what else.
    fn among(
        schemes: impl Iterator<Item = &'static Scheme>,
        (view, depth): (View<'_>, Depth),
        opaque: Result<Option<&'static str>, Doubt>,
    ) -> Self {
        let (mut found, mut unclear) = (Vec::new(), None);
        for scheme in schemes {
            match (scheme.is)(view) {
                Ok(true) => found.push(scheme),
                Ok(false) => {}
                Err(doubt) => unclear = unclear.or(Some(doubt)),
            }
        }
        let opaque = opaque.unwrap_or_else(|doubt| {
            unclear = unclear.take().or(Some(doubt));
            None
        });
        match (&*found, opaque, unclear) {
            ([], None, Some(doubt)) => Self::doubted(None, doubt),
            ([], Some(name), _) => Self::signed(name, view),
            ([], None, None) => Self::opaque(opaque::name_of_last_resort(view)),
            ([one, other, ..], ..) => Self::doubted(None, Doubt::Ambiguous(one.name, other.name)),
            ([scheme], Some(name), _) => Self::doubted(None, Doubt::Ambiguous(name, scheme.name)),
            ([scheme], None, Some(doubt)) => Self::doubted(Some(scheme.name), doubt),
            ([scheme], None, None) => match read(scheme, view, depth) {
                Ok(found) => found.into(),
                Err(doubt) => Self::doubted(Some(scheme.name), doubt),
            },
        }
    }

    /// What a member of a mirror is that leaves its content where it would be without, if a stretch is one. All else
    /// that is recognised there is in the mirror.
    fn around(view: View<'_>) -> Option<Self> {
        let is_mirror = matches!(md::is_around(view), Ok(true));
        is_mirror.then(|| Self::signed(md::READER.name, view))
    }

    /// What is recognised by its signature, and read if that is known here.
    fn signed(name: &'static str, view: View<'_>) -> Self {
        let reader = READERS.iter().find(|reader| reader.name == name);
        match reader.map(|reader| (reader.read)(view)) {
            None => Self::opaque(Some(name)),
            Some(Ok(found)) => found.into(),
            Some(Err(doubt)) => Self::doubted(Some(name), doubt),
        }
    }

    fn opaque(name: Option<&'static str>) -> Self {
        Self::told(name, Ok(Usage::Opaque))
    }

    /// As what holds it tells.
    pub(super) fn told(name: Option<&'static str>, content: Result<Usage, Doubt>) -> Self {
        Self {
            name,
            label: None,
            details: Vec::new(),
            content,
        }
    }

    pub(super) fn doubted(name: Option<&'static str>, doubt: Doubt) -> Self {
        Self::told(name, Err(doubt))
    }
}

impl From<Found> for Recognised {
    fn from(found: Found) -> Self {
        Self {
            name: Some(found.name),
            label: found.label,
            details: found.details,
            content: Ok(found.content),
        }
    }
}
