//! The files that it takes to read an image: opened only if that was asked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::access::Access;
use super::beside::{needs, resolved};
use super::chain::Chain;
use super::format::Format;
use super::host::HostFile;
use super::layer::{Layer, RawLayer};
use super::opening::{self, Opened, Opening};
use super::windows::Windows;
use crate::devices::FileId;
use crate::disk::{self, FileDisk, Open};
use crate::error::{Error, Invalid, Result, Role, Unsupported};

/// How many backing files are followed, one behind the other.
const MAX_DEPTH: usize = 64;

/// What opens one file after the other.
struct Opener {
    /// What was asked for, for the images behind the first one.
    access: Access,
    /// What backing files are, from the first on.
    formats: Vec<Format>,
    windows: Arc<Windows>,
    layers: Vec<Box<dyn Layer>>,
    opened: Vec<FileId>,
}

/// Where to look for what is not allocated in an image.
struct Backing {
    path: PathBuf,
    /// `None` if nobody said.
    format: Option<Format>,
}

impl Chain {
    /// Opens an image of the format that it seems to have: [`open_as`](Self::open_as).
    ///
    /// # Errors
    ///
    /// Those of [`Format::of_image`] and [`open_as`](Self::open_as).
    pub fn open(path: &Path, access: &Access) -> Result<Self> {
        Self::open_as(path, Format::of_image(path, None)?, access)
    }

    /// Opens an image, or a raw disk, with all it needs.
    ///
    /// # Errors
    ///
    /// - Those of [`Image::open`](super::qcow2::Image::open), for every file.
    /// - [`Error::Invalid`] if it needs a file or a password that must not be opened or is not there, was given one
    ///   that it does not need, is its own backing file, has no such snapshot, or a raw file is in use.
    /// - [`Error::Unsupported`] if it is encrypted in a way, or a backing file is in a format, that is not known here.
    pub fn open_as(path: &Path, format: Format, access: &Access) -> Result<Self> {
        let mut opener = Opener {
            access: Access {
                follow: access.follow,
                password: access.password.clone(),
                force: access.force,
                ..Access::default()
            },
            formats: access.backing_formats.clone(),
            windows: Arc::default(),
            layers: Vec::new(),
            opened: Vec::new(),
        };
        let mut next = opener.add(path, format, access)?;
        while let Some(backing) = next {
            next = opener
                .add_backing(&backing)
                .map_err(|error| error.elsewhere(&backing.path))?;
        }
        let disk = Self::new(opener.layers);
        match disk.in_use() {
            Some((at, writer)) if !access.force => {
                let error = Error::from(Invalid::SourceInUse(writer.clone()));
                Err(if at == path { error } else { error.elsewhere(at) })
            }
            Some(_) | None => Ok(disk),
        }
    }
}

impl Opener {
    /// Adds a file, and tells what is to be added behind it.
    fn add(&mut self, path: &Path, format: Format, access: &Access) -> Result<Option<Backing>> {
        if format == Format::Raw {
            access.refuse_of_raw()?;
            let source = open_raw(path, access.force)?;
            let path = path.to_owned();
            self.layers.push(Box::new(RawLayer { path, source }));
            return Ok(None);
        }
        let opening = Opening {
            number: u32::try_from(self.layers.len()).unwrap_or(u32::MAX),
            windows: Arc::clone(&self.windows),
            access,
        };
        let Opened {
            layer,
            files,
            backing,
        } = format.open(HostFile::open(path)?, &opening)?;
        if access.backing.is_some() && backing.is_none() {
            return Err(Invalid::NeedsNoFile(Role::Backing).into());
        }
        if files.iter().any(|file| self.opened.contains(file)) {
            return Err(Invalid::ChainLoop.into());
        }
        self.opened.extend(files);
        let backing = backing
            .map(|backing| {
                let is_told = self.formats.len() > self.layers.len();
                located(path, &backing, is_told, access)
            })
            .transpose()?;
        self.layers.push(layer);
        Ok(backing)
    }

    fn add_backing(&mut self, backing: &Backing) -> Result<Option<Backing>> {
        if self.layers.len() > MAX_DEPTH {
            return Err(Invalid::ChainTooLong { limit: MAX_DEPTH }.into());
        }
        let number = self.layers.len().saturating_sub(1);
        let known = self.formats.get(number).copied().or(backing.format);
        let format = match known {
            Some(format) => format,
            None => Format::of_backing(&backing.path)?,
        };
        let is_guess = known.is_none() && format != Format::Raw;
        // The content of a raw disk belongs to its guest, who must not choose which files are opened.
        let was_followed = self.access.follow;
        self.access.follow &= !is_guess;
        let access = self.access.clone();
        let added = self.add(&backing.path, format, &access);
        match added {
            Err(Error::Invalid(Invalid::NeedsFile { role, name })) if is_guess && was_followed => {
                let format = format.name();
                Err(Invalid::Guessed { format, role, name }.into())
            }
            added => added,
        }
    }
}

/// Where the backing file is of the image at `image`, and its format, unless that is told otherwise.
fn located(image: &Path, backing: &opening::Backing, is_told: bool, access: &Access) -> Result<Backing> {
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
        None if access.follow => resolved(image, &backing.name)?,
        None => return Err(needs(Role::Backing, &backing.name)),
    };
    Ok(Backing { path, format })
}

fn open_raw(path: &Path, force: bool) -> Result<Option<FileDisk>> {
    let open = Open {
        force,
        ..Open::default()
    };
    match disk::open(path, open) {
        Ok(source) => Ok(Some(source)),
        // Nothing is nothing to image, but may well be nothing to stand on.
        Err(Error::Invalid(Invalid::SourceEmpty)) => Ok(None),
        Err(error) => Err(error),
    }
}
