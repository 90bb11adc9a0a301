//! The images that are to become one: each is whole, and the one that the image before it was made on.

use std::path::Path;

use crate::create::base::Base;
use crate::devices::{FileId, Subject};
use crate::disk::{Change, Disk, Underlying};
use crate::error::{Action, Error, Invalid, Result, Unfit, Unmergeable};
use crate::formats::qcow2::{Image, Record};
use crate::formats::{self, Access, Chain, Opening};
use crate::output::Place;
use crate::units::GuestOffset;

/// The image, and all that it stands on.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) chain: Chain,
    /// What the image records.
    pub(super) record: Record,
    /// What the new one is to stand on.
    pub(super) kept: Option<Kept>,
}

/// An image of the chain that stays what is stood on.
#[derive(Debug)]
pub(super) struct Kept {
    /// Its number in the chain.
    pub(super) depth: usize,
    pub(super) base: Base,
}

impl Origin {
    /// Opens an image with all that it stands on.
    ///
    /// # Errors
    ///
    /// - Those of [`formats::open`].
    /// - [`Invalid::Unmergeable`] if it stands on nothing, or not on `onto`.
    /// - [`Invalid::Unfit`] if one of them is not what it was when it was made.
    pub(super) fn open(path: &Path, onto: Option<&Path>) -> Result<Self> {
        let image = Image::open(path)?;
        if image.backing_name().is_none() {
            return Err(Invalid::Unmergeable(Unmergeable::Alone).into());
        }
        // Before anything is opened that it names.
        image.identity()?;
        let opening = Opening::image(Access {
            follow: true,
            ..Access::default()
        });
        let chain = formats::open_image(path, &opening)?;
        chain.settle()?;
        for depth in 0..chain.depth() {
            refuse_unfit(&chain, depth).map_err(|error| of(&chain, depth, error))?;
        }
        let Some(record) = chain.image().map_or(Ok(None), Image::record)? else {
            return Err(Invalid::Unfit(Unfit::Foreign).into());
        };
        let kept = onto.map(|onto| Kept::find(&chain, path, onto)).transpose()?;
        Ok(Self { chain, record, kept })
    }

    /// How many images become one.
    pub(super) fn merged(&self) -> usize {
        self.kept.as_ref().map_or(self.chain.depth(), |kept| kept.depth)
    }

    /// Refuses to give the name to a new image if another program has written to one of the old ones meanwhile.
    pub(super) fn refuse_changed(&self) -> Result<()> {
        match self.chain.change()? {
            // What cannot be told does not matter: all that was copied was compared with its checksums.
            None
            | Some((
                _,
                Change::Untold | Change::Mapped { .. } | Change::Closed | Change::WritesFail { .. },
            )) => Ok(()),
            Some((
                path,
                Change::Size { .. } | Change::Modified | Change::SectorsWritten(_) | Change::BehindModified,
            )) => Err(Error::from(Invalid::Unmergeable(Unmergeable::Changed)).elsewhere(path)),
        }
    }
}

impl Kept {
    fn find(chain: &Chain, image: &Path, onto: &Path) -> Result<Self> {
        let refused = |why| Error::from(Invalid::Unmergeable(why)).elsewhere(onto);
        let failed = |error| Error::source_io(Action::Open, error).elsewhere(onto);
        let id = FileId::of(&onto.metadata().map_err(failed)?);
        let is_it = |depth: &usize| {
            chain
                .image_at(*depth)
                .is_some_and(|image| image.file().id() == id)
        };
        let depth = match (0..chain.depth()).find(is_it) {
            None => return Err(refused(Unmergeable::NotInChain)),
            Some(0) => return Err(refused(Unmergeable::Itself)),
            Some(1) => return Err(refused(Unmergeable::Next)),
            Some(depth) => depth,
        };
        // Seen from where the file is, not from a link to it.
        let image = image
            .canonicalize()
            .map_err(|error| Error::source_io(Action::Open, error))?;
        let base = Base::open(onto, &Place::Path(image))?;
        Ok(Self { depth, base })
    }
}

/// The error of an image of the chain, with its path unless it is the first.
pub(super) fn of(chain: &Chain, depth: usize, error: Error) -> Error {
    match chain.image_at(depth) {
        Some(image) if depth > 0 => error.elsewhere(image.file().path()),
        Some(_) | None => error,
    }
}

/// All files that are read and are not to be replaced.
pub(super) fn bases(chain: &Chain) -> Vec<Subject> {
    let all = chain.stands_on().into_iter();
    all.skip(1).map(Underlying::subject).collect()
}

/// Refuses an image that is not whole, or stands on something else than it was made on. Those behind one that tells its
/// base were held to that when they were opened.
fn refuse_unfit(chain: &Chain, depth: usize) -> Result<()> {
    let unfit = |unfit| Err(Invalid::Unfit(unfit).into());
    let Some(image) = chain.image_at(depth) else {
        return unfit(Unfit::Foreign);
    };
    image.identity()?;
    let tells_base = image.record()?.is_some_and(|record| record.base.is_some());
    let is_last = depth == chain.depth().saturating_sub(1);
    // Snapshots would be lost. In version 2 no bit tells that another program made some.
    if image.backing_name().is_some() != tells_base
        || tells_base == is_last
        || image.header().snapshots().entries > 0
    {
        return unfit(Unfit::Changed);
    }
    Ok(())
}

/// What is free on a disk, from its beginning to its end, as the image records it.
pub(super) fn free(record: &Record, size: u64) -> impl Iterator<Item = std::ops::Range<u64>> + '_ {
    let mut at = GuestOffset(0);
    std::iter::from_fn(move || {
        while at.0 < size {
            let start = at.0;
            let (is_free, until) = record.free_at(start);
            at = GuestOffset(until.min(size));
            if is_free {
                return Some(start..at.0);
            }
        }
        None
    })
}
