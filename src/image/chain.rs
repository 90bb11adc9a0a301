//! The files that it takes to read an image: opened only if that was asked for.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::Disk;
use super::host::HostFile;
use super::layer::{ImageLayer, Layer, RawLayer};
use super::windows::Windows;
use super::{Image, View};
use crate::devices::FileId;
use crate::error::{Error, Invalid, Result, Role, Unsupported};
use crate::format::features;
use crate::format::header::{Encryption, MAGIC};
use crate::source::{self, FileSource, Open};
use crate::units::HostOffset;

/// How many backing files are followed, one behind the other.
const MAX_DEPTH: usize = 64;

/// Which state of the disk is wanted, and which files besides the image may be opened for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The backing file of the image, whatever the image says. `None`: as `follow` says.
    pub backing: Option<PathBuf>,
    /// The external data file of the image, whatever the image says. `None`: as `follow` says.
    pub data_file: Option<PathBuf>,
    /// Open the files that the image, and its backing files, name.
    pub follow: bool,
    /// ID or name of the internal snapshot to read instead of the active state.
    pub snapshot: Option<String>,
}

/// What opens one file after the other.
struct Opener {
    follow: bool,
    windows: Arc<Windows>,
    layers: Vec<Layer>,
    opened: Vec<FileId>,
}

/// Where to look for what is not allocated in an image.
struct Backing {
    path: PathBuf,
    /// `None` if nobody said.
    format: Option<Format>,
}

/// How a file or device holds a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Byte by byte.
    Raw,
    /// As a qcow2 image.
    Qcow2,
}

impl Format {
    /// The format that was given, or else the one that the file [seems](is_image) to have.
    ///
    /// # Errors
    ///
    /// Those of [`is_image`].
    pub fn of(path: &Path, given: Option<Self>) -> Result<Self> {
        match given {
            Some(given) => Ok(given),
            None if is_image(path)? => Ok(Self::Qcow2),
            None => Ok(Self::Raw),
        }
    }
}

impl Access {
    /// Refuses, for a raw disk, what can be asked for of an image only.
    pub(crate) fn refuse_of_raw(&self) -> Result<(), Invalid> {
        if self.backing.is_some() {
            return Err(Invalid::NeedsNoFile(Role::Backing));
        }
        if self.data_file.is_some() {
            return Err(Invalid::NeedsNoFile(Role::Data));
        }
        match self.snapshot.clone() {
            Some(wanted) => Err(Invalid::NoSuchSnapshot { wanted }),
            None => Ok(()),
        }
    }
}

impl Disk {
    /// Opens an image with all it needs.
    ///
    /// # Errors
    ///
    /// - Those of [`Image::open`], for every file.
    /// - [`Error::Invalid`] if it needs a file that must not be opened, was given one that it does not need, is
    ///   its own backing file, has no such snapshot, or a raw backing file is in use.
    /// - [`Error::Unsupported`] if it is encrypted, or a backing file is in a format that is not known here.
    pub fn open(path: &Path, access: &Access) -> Result<Self> {
        let mut opener = Opener {
            follow: access.follow,
            windows: Arc::default(),
            layers: Vec::new(),
            opened: Vec::new(),
        };
        let image = Image::open_as(path, 0, Arc::clone(&opener.windows))?;
        if access.backing.is_some() && image.backing_name.is_none() {
            return Err(Invalid::NeedsNoFile(Role::Backing).into());
        }
        if access.data_file.is_some() && !image.header.needs(features::DATA_FILE) {
            return Err(Invalid::NeedsNoFile(Role::Data).into());
        }
        let view = match &access.snapshot {
            Some(wanted) => image.view_of(&image.snapshot(wanted)?)?,
            None => image.active(),
        };
        let mut next = opener.add(
            image,
            view,
            access.backing.as_deref(),
            access.data_file.as_deref(),
        )?;
        while let Some(backing) = next {
            next = opener
                .add_backing(&backing)
                .map_err(|error| error.elsewhere(&backing.path))?;
        }
        Ok(Self::new(opener.layers, view.size))
    }
}

impl Image {
    /// Refuses an image whose clusters mean nothing without a key.
    pub(crate) fn refuse_encrypted(&self) -> Result<(), Unsupported> {
        match self.header.encryption() {
            None => Ok(()),
            Some(Encryption::Aes) => Err(Unsupported::Encrypted("AES")),
            Some(Encryption::Luks) => Err(Unsupported::Encrypted("LUKS")),
        }
    }

    /// Opens the external data file of an image that has one, if that is asked for. Its backing file is not opened.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if it has no data file, but one was given.
    /// - [`Error::Io`] if the data file cannot be opened.
    pub fn with_data_file(mut self, access: &Access) -> Result<Self> {
        let has_one = self.header.needs(features::DATA_FILE);
        if access.data_file.is_some() && !has_one {
            return Err(Invalid::NeedsNoFile(Role::Data).into());
        }
        if has_one && (access.follow || access.data_file.is_some()) {
            let path = data_path(&self, access.data_file.as_deref(), access.follow)?;
            self.data = Some(HostFile::open(&path).map_err(|error| error.elsewhere(&path))?);
        }
        Ok(self)
    }
}

impl Opener {
    /// Adds an image, and tells what is to be added behind it.
    fn add(
        &mut self,
        mut image: Image,
        view: View,
        backing: Option<&Path>,
        data_file: Option<&Path>,
    ) -> Result<Option<Backing>> {
        image.refuse_encrypted()?;
        self.remember(image.file.id())?;
        if image.header.needs(features::DATA_FILE) {
            let path = data_path(&image, data_file, self.follow)?;
            let file = HostFile::open(&path).map_err(|error| error.elsewhere(&path))?;
            self.remember(file.id())
                .map_err(|error| Error::from(error).elsewhere(&path))?;
            image.data = Some(file);
        }
        let backing = self.backing_of(&image, backing)?;
        self.layers
            .push(Layer::Image(Box::new(ImageLayer { image, view })));
        Ok(backing)
    }

    fn add_backing(&mut self, backing: &Backing) -> Result<Option<Backing>> {
        if self.layers.len() > MAX_DEPTH {
            return Err(Invalid::ChainTooLong { limit: MAX_DEPTH }.into());
        }
        let format = Format::of(&backing.path, backing.format)?;
        if backing.format.is_none() {
            // The content of a raw disk belongs to its guest, who must not choose which files are opened.
            self.follow &= format == Format::Raw;
        }
        if format == Format::Qcow2 {
            let number = u32::try_from(self.layers.len()).unwrap_or(u32::MAX);
            let image = Image::open_as(&backing.path, number, Arc::clone(&self.windows))?;
            let view = image.active();
            return self.add(image, view, None, None);
        }
        let source = open_raw(&backing.path)?;
        self.layers.push(Layer::Raw(Box::new(RawLayer {
            path: backing.path.clone(),
            source,
        })));
        Ok(None)
    }

    fn backing_of(&self, image: &Image, given: Option<&Path>) -> Result<Option<Backing>> {
        let Some(name) = image.backing_name.as_deref() else {
            return Ok(None);
        };
        let format = match image.extensions.backing_format.as_deref() {
            Some("qcow2") => Some(Format::Qcow2),
            Some("raw" | "file" | "host_device") => Some(Format::Raw),
            None | Some("") => None,
            Some(other) => return Err(Unsupported::BackingFormat(other.to_owned()).into()),
        };
        let path = match given {
            Some(path) => path.to_owned(),
            None if self.follow => resolved(image, name)?,
            None => return Err(needs(Role::Backing, name)),
        };
        Ok(Some(Backing { path, format }))
    }

    fn remember(&mut self, file: FileId) -> Result<(), Invalid> {
        if self.opened.contains(&file) {
            return Err(Invalid::ChainLoop);
        }
        self.opened.push(file);
        Ok(())
    }
}

fn data_path(image: &Image, given: Option<&Path>, follow: bool) -> Result<PathBuf> {
    let name = image.extensions.data_file.as_deref();
    match (given, name) {
        (Some(path), _) => Ok(path.to_owned()),
        (None, Some(name)) if follow => resolved(image, name),
        (None, Some(name)) => Err(needs(Role::Data, name)),
        (None, None) => Err(Invalid::NamelessFile(Role::Data).into()),
    }
}

fn needs(role: Role, name: &OsStr) -> Error {
    let name = name.to_string_lossy().into_owned();
    Invalid::NeedsFile { role, name }.into()
}

/// A name is relative to the directory of the image that has it.
fn resolved(image: &Image, name: &OsStr) -> Result<PathBuf> {
    let bytes = name.as_bytes();
    let has_protocol = bytes.starts_with(b"json:") || bytes.windows(3).any(|three| three == b"://");
    if has_protocol {
        return Err(Unsupported::Protocol(name.to_string_lossy().into_owned()).into());
    }
    let name: OsString = match bytes.strip_prefix(b"file:") {
        Some(name) => OsStr::from_bytes(name).to_owned(),
        None => name.to_owned(),
    };
    let directory = image.file.path().parent().unwrap_or(Path::new(""));
    Ok(directory.join(name))
}

/// Whether a file or device begins as an image does. A raw disk does too if whoever writes to it wants that.
///
/// # Errors
///
/// - [`Error::Invalid`] if it is neither a regular file nor a block device.
/// - [`Error::Io`] if it cannot be read.
pub fn is_image(path: &Path) -> Result<bool> {
    let file = HostFile::open(path)?;
    let mut magic = [0; MAGIC.len()];
    let read = file.read(&mut magic, HostOffset(0))?;
    Ok(read == magic.len() && magic == MAGIC)
}

fn open_raw(path: &Path) -> Result<Option<FileSource>> {
    match source::open(path, Open::default()) {
        Ok(source) => Ok(Some(source)),
        // Nothing is nothing to image, but may well be nothing to stand on.
        Err(Error::Invalid(Invalid::SourceEmpty)) => Ok(None),
        Err(error) => Err(error),
    }
}
