//! The one way to open a disk, whatever holds it, with all the files that it takes: others than the first are opened
//! only if that was asked for, and each only once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::access::Access;
use super::any::AnyDisk;
use super::beside::{is_beside, missing, needs, resolved};
use super::chain::{Chain, Link};
use super::format::Format;
use super::host::HostFile;
use super::opening::{self, Member, Opened, Overlap};
use super::qcow2::structures::identity::BaseIdentity;
use super::registry::{LUKS, Looks};
use super::windows::Windows;
use crate::devices::{FileId, Kernel, Subject};
use crate::disk::{self, Disk, Empty, FileDisk, Force, Found, Open};
use crate::error::{Action, Error, Invalid, Result, Role, Unfit, Unsupported};
use crate::units::Exact;

/// How many backing files are followed, one behind the other.
pub(crate) const MAX_DEPTH: usize = 64;

/// How a disk is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// What it is; if not given, what it is [taken for](Self::taken_for).
    pub format: Option<Format>,
    /// What it is if that is not given.
    pub taken_for: TakenFor,
    /// If it is an image: what of it is read, and which other files may be opened for that.
    pub access: Access,
    /// How it, and what is behind an image, is opened.
    pub open: Open,
    /// What becomes of it, and of its backing files, if they are images whose tables overlap.
    pub overlap: Overlap,
}

/// What a file or device is taken for whose format is not given. A raw disk may begin like any image, if whoever writes
/// to it wants that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TakenFor {
    /// An image if it begins like one that can be read, or else a raw disk. One whose beginning cannot be read is raw:
    /// no image can be read then, but most of a disk can.
    #[default]
    WhatItLooksLike,
    /// A raw disk; refused if it is a regular file and begins like an image: a guest can write any first sector, and a
    /// backup of an image file may well be wanted, so that neither can be guessed.
    Raw,
    /// An image; refused if it begins like none.
    Image,
}

impl Opening {
    /// Of what must be an image.
    pub fn image(access: Access) -> Self {
        Self {
            taken_for: TakenFor::Image,
            access,
            ..Self::default()
        }
    }

    fn format_of(&self, found: &mut Found) -> Result<Format> {
        match (self.format, self.taken_for) {
            (Some(given), _) => Ok(given),
            (None, TakenFor::WhatItLooksLike) => match found.beginning() {
                Ok(begin) => Ok(Looks::at(begin).as_disk()),
                Err(Error::Io {
                    action: Action::Read(_),
                    ..
                }) => Ok(Format::Raw),
                Err(error) => Err(error),
            },
            (None, TakenFor::Raw) => Ok(raw_unless_image(found)?),
            (None, TakenFor::Image) => Ok(Looks::image_at(found.beginning()?)?),
        }
    }
}

/// What cannot be looked at is refused when it is opened.
fn raw_unless_image(found: &mut Found) -> Result<Format, Invalid> {
    if matches!(found.subject(), Subject::Device(_)) {
        return Ok(Format::Raw);
    }
    match found.beginning().map(Looks::at) {
        // A disk may well be encrypted.
        Err(_) | Ok(Looks::Like(Format::Raw) | Looks::Foreign(LUKS)) => Ok(Format::Raw),
        Ok(Looks::Like(seen)) => Err(Invalid::LooksLikeImage(seen.name())),
        Ok(Looks::Foreign(name)) => Err(Invalid::LooksLikeImage(name)),
    }
}

/// Opens a raw file, a block device or an image, with all it needs. What others wrote earlier to an image is not brought
/// to the disk first: [`Disk::settle`] does that.
///
/// # Errors
///
/// - Those of [`disk::open`] for a raw file or device, and if [`Access`] asks for what it does not have.
/// - Those of [`Image::open`](super::qcow2::Image::open), for every file of an image.
/// - [`Error::Invalid`] if an image needs a file or a password that must not be opened or is not there, was given one
///   that it does not need, is its own backing file, has no such snapshot, or a file is in use.
/// - [`Error::Unsupported`] if it is encrypted in a way, or a backing file is in a format, that is not known here.
pub fn open(path: &Path, opening: &Opening) -> Result<AnyDisk> {
    open_found(Found::at(path)?, opening, IsAt::Path)
}

/// Opens what must be an image.
///
/// # Errors
///
/// Those of [`open`], and [`Invalid::NoImage`] if it is said to be raw.
pub(crate) fn open_image(path: &Path, opening: &Opening) -> Result<Chain> {
    refuse_raw(opening.format)?;
    match open(path, opening)? {
        AnyDisk::Image(chain) => Ok(*chain),
        AnyDisk::Raw(_) => Err(Invalid::NoImage.into()),
    }
}

/// Refuses what must be an image and is said to be raw, before it is looked for: nothing that could be there would do.
pub(crate) fn refuse_raw(given: Option<Format>) -> Result<(), Invalid> {
    match given {
        Some(Format::Raw) => Err(Invalid::NoImage),
        Some(Format::Qcow2 | Format::Qcow | Format::Qed) | None => Ok(()),
    }
}

/// Where an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IsAt {
    /// In a directory.
    Path,
    /// Nowhere, so that no other file is at its side.
    Stream,
}

/// The same of what was found already.
pub(super) fn open_found(mut found: Found, opening: &Opening, is_at: IsAt) -> Result<AnyDisk> {
    let format = opening.format_of(&mut found)?;
    if format == Format::Raw {
        opening.access.refuse_of_raw()?;
        let disk = disk::open_found(found, opening.open)?;
        return Ok(AnyDisk::Raw(Box::new(disk)));
    }
    let mut opener = Opener {
        follow: opening.access.follow,
        is_at,
        opening,
        windows: Arc::default(),
        links: Vec::new(),
        opened: Vec::new(),
    };
    let mut base = None;
    let mut next = opener.add(found, format, &opening.access, None)?;
    while let Some(backing) = next {
        let is_first = opener.links.len() == 1;
        let added = opener
            .add_backing(&backing)
            .map_err(|error| match &backing.named_by {
                Some(image) => missing(error, Role::Backing, image, is_first),
                None => error,
            });
        (base, next) = added.map_err(|error| error.elsewhere(&backing.path))?;
    }
    let chain = Chain::new(opener.links, base);
    refuse_in_use(&chain, opening.open.force)?;
    Ok(AnyDisk::Image(Box::new(chain)))
}

/// Refuses an image if another program may write to one of its files. Of a raw disk behind it that was asked before.
fn refuse_in_use(chain: &Chain, force: Force) -> Result<()> {
    let kernel = Kernel::running();
    for (number, file) in chain.stands_on().into_iter().enumerate() {
        let refused = force.refuse(file.find_writer(&kernel)).map_err(Error::from);
        refused.map_err(|error| match number {
            0 => error,
            _ => error.elsewhere(file.path()),
        })?;
    }
    Ok(())
}

/// What opens one image after the other.
struct Opener<'a> {
    opening: &'a Opening,
    /// Whether files that images name are opened.
    follow: bool,
    is_at: IsAt,
    windows: Arc<Windows>,
    links: Vec<Link>,
    opened: Vec<FileId>,
}

/// Where to look for what is not allocated in an image.
struct Backing {
    path: PathBuf,
    /// `None` if it is not told.
    format: Option<Format>,
    /// The image that names the path, unless the user does.
    named_by: Option<PathBuf>,
    /// Which image it has to be, if that is recorded.
    expected: Option<BaseIdentity>,
}

impl Opener<'_> {
    /// Adds an image, and tells what is to be added behind it.
    fn add(
        &mut self,
        found: Found,
        format: Format,
        access: &Access,
        is_it: Option<&BaseIdentity>,
    ) -> Result<Option<Backing>> {
        let path = found.path().to_owned();
        let member = Member {
            number: u32::try_from(self.links.len()).unwrap_or(u32::MAX),
            windows: Arc::clone(&self.windows),
            access,
            overlap: self.opening.overlap,
        };
        let (opened, image) = format.open(HostFile::of(found)?, &member)?;
        match (is_it, &image) {
            (Some(expected), Some(image)) => image.hold_to(expected)?,
            (Some(_), None) => return Err(Invalid::Unfit(Unfit::Foreign).into()),
            (None, _) => {}
        }
        let Opened {
            layer,
            files,
            backing,
        } = opened;
        if access.backing.is_some() && backing.is_none() {
            return Err(Invalid::NeedsNoFile(Role::Backing).into());
        }
        if files.iter().any(|file| self.opened.contains(file)) {
            return Err(Invalid::ChainLoop.into());
        }
        self.opened.extend(files);
        let expected = match &image {
            Some(image) if self.is_at == IsAt::Path => match image.promised() {
                // The user knows which one it is.
                Err(Error::Corrupt(_)) if access.backing.is_some() => None,
                promised => promised?,
            },
            Some(_) | None => None,
        };
        let backing = backing
            .map(|backing| {
                let is_told = self.opening.access.backing_formats.len() > self.links.len();
                located(&path, &backing, is_told, access, expected)
            })
            .transpose()?;
        self.links.push(Link { layer, image });
        Ok(backing)
    }

    /// Adds an image, or else the raw disk at the end.
    fn add_backing(&mut self, backing: &Backing) -> Result<(Option<FileDisk>, Option<Backing>)> {
        if self.links.len() > MAX_DEPTH {
            return Err(Invalid::ChainTooLong { limit: MAX_DEPTH }.into());
        }
        // The image itself is there.
        let number = self.links.len().minus(1);
        let told = self.opening.access.backing_formats.get(number).copied();
        let known = told.or(backing.format);
        let mut found = Found::at(&backing.path)?;
        let format = match known {
            Some(format) => format,
            None => Looks::at(found.beginning()?).as_backing()?,
        };
        if format == Format::Raw {
            if backing.expected.is_some() {
                return Err(Invalid::Unfit(Unfit::Foreign).into());
            }
            let open = Open {
                empty: Empty::Allowed,
                ..self.opening.open
            };
            return Ok((Some(disk::open_found(found, open)?), None));
        }
        // The content of a raw disk belongs to its guest, who must not choose which files are opened.
        let (is_guess, was_followed) = (known.is_none(), self.follow);
        self.follow &= !is_guess;
        let access = Access {
            follow: self.follow,
            password: self.opening.access.password.clone(),
            ..Access::default()
        };
        match self.add(found, format, &access, backing.expected.as_ref()) {
            Err(Error::Invalid(Invalid::NeedsFile { role, name })) if is_guess && was_followed => {
                let format = format.name();
                Err(Invalid::Guessed { format, role, name }.into())
            }
            added => Ok((None, added?)),
        }
    }
}

/// Where the backing file is of the image at `image`, and its format, unless that is told otherwise.
fn located(
    image: &Path,
    backing: &opening::Backing,
    is_told: bool,
    access: &Access,
    expected: Option<BaseIdentity>,
) -> Result<Backing> {
    // What is not known here may still be told.
    let format = match backing.format.as_deref() {
        None | Some("") => None,
        Some(name) => match Format::named(name) {
            None if !is_told => return Err(Unsupported::BackingFormat(name.to_owned()).into()),
            format => format,
        },
    };
    let path = match &access.backing {
        Some(path) => path.clone(),
        // What is at its side and can be held to its identity may be opened unasked.
        None if access.follow || (expected.is_some() && is_beside(&backing.name)) => {
            resolved(image, &backing.name)?
        }
        None => return Err(needs(Role::Backing, &backing.name)),
    };
    let named_by = access.backing.is_none().then(|| image.to_owned());
    Ok(Backing {
        path,
        format,
        named_by,
        expected,
    })
}
