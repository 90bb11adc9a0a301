//! qcow2 as one of the files of a disk: an image in a certain state.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Cursor, Image, View};
use crate::error::{Error, Invalid, Result, Role, Unsupported};
use crate::formats::beside::{missing, needs, resolved};
use crate::formats::cipher::Cipher;
use crate::formats::decompress::Decoder;
use crate::formats::layer::Layer;
use crate::formats::opening::{Backing, Member, Opened};
use crate::formats::qcow2::structures::features;
use crate::formats::qcow2::structures::header::Encryption;
use crate::formats::qcow2::structures::mapping::Stream;
use crate::formats::windows::Spare;
use crate::formats::{Access, HostFile, HostRun, Remark};
use crate::units::{GuestOffset, HostOffset};

/// An image in a certain state.
#[derive(Debug)]
struct Qcow2Layer {
    image: Arc<Image>,
    view: View,
    is_active: bool,
    cipher: Option<Cipher>,
    spare: Spare,
}

/// Opens an image with its external data file.
pub(in crate::formats) fn open(file: HostFile, member: &Member<'_>) -> Result<(Opened, Arc<Image>)> {
    let access = member.access;
    let mut image = Image::of_file(file, member.number, Arc::clone(&member.windows), member.overlap)?;
    if access.data_file.is_some() && !image.header().needs(features::DATA_FILE) {
        return Err(Invalid::NeedsNoFile(Role::Data).into());
    }
    let view = match &access.snapshot {
        Some(wanted) => image.view_of(&image.snapshot(wanted)?)?,
        None => image.active(),
    };
    let cipher = match image.header().encryption() {
        None => None,
        Some(Encryption::Aes) => Some(Cipher::of(access.password.as_ref())?),
        Some(Encryption::Luks) => return Err(Unsupported::Encrypted("LUKS").into()),
    };
    let mut files = vec![image.file().id()];
    if image.header().needs(features::DATA_FILE) {
        let (path, file) = data_file(&image, access, member.number == 0)?;
        if files.contains(&file.id()) {
            return Err(Error::from(Invalid::ChainLoop).elsewhere(&path));
        }
        files.push(file.id());
        image = image.with_data(file);
    }
    let backing = image.backing_name().cloned().map(|name| Backing {
        name,
        format: image.extensions().backing_format.clone(),
    });
    let image = Arc::new(image);
    let layer = Qcow2Layer {
        image: Arc::clone(&image),
        view,
        is_active: access.snapshot.is_none(),
        cipher,
        spare: Spare::default(),
    };
    let opened = Opened {
        layer: Box::new(layer),
        files,
        backing,
    };
    Ok((opened, image))
}

impl Layer for Qcow2Layer {
    fn file(&self) -> &HostFile {
        self.image.file()
    }

    fn data_file(&self) -> Option<&HostFile> {
        self.image.data_file()
    }

    fn size(&self) -> u64 {
        self.view.size
    }

    fn cluster_size(&self) -> u64 {
        self.image.header().geometry().cluster_size()
    }

    fn table_reach(&self) -> u64 {
        self.image.header().geometry().l2_reach()
    }

    fn run_at(&self, at: GuestOffset, limit: u64) -> Result<HostRun> {
        self.spare.with(|hand| {
            let mut cursor = Cursor::new(&self.image, self.view, hand);
            (cursor.run_at(at, limit), cursor.into_hand())
        })
    }

    fn read(&self, host: HostOffset, at: GuestOffset, buf: &mut [u8]) -> Result<()> {
        match &self.cipher {
            None => self.image.read_data(host, buf),
            Some(cipher) => cipher.read(host, at, buf, |host, buf| self.image.read_data(host, buf)),
        }
    }

    fn decode(
        &self,
        decoder: &mut Decoder,
        stream: Stream,
        guest: Range<u64>,
        cluster: &mut [u8],
    ) -> Result<()> {
        self.image.decode(decoder, stream, guest, cluster)
    }

    fn is_active(&self) -> bool {
        self.is_active
    }

    fn is_encrypted(&self) -> bool {
        self.cipher.is_some()
    }

    fn remarks(&self) -> Vec<Remark> {
        self.image.remarks().collect()
    }
}

impl Image {
    /// Refuses an image whose clusters mean nothing without a key.
    pub(crate) fn refuse_encrypted(&self) -> Result<(), Unsupported> {
        match self.header().encryption() {
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
    pub fn with_data_file(self, access: &Access) -> Result<Self> {
        let has_one = self.header().needs(features::DATA_FILE);
        if access.data_file.is_some() && !has_one {
            return Err(Invalid::NeedsNoFile(Role::Data).into());
        }
        if has_one && (access.follow || access.data_file.is_some()) {
            let (_, file) = data_file(&self, access, true)?;
            return Ok(self.with_data(file));
        }
        Ok(self)
    }

    /// Reads bytes of uncompressed clusters.
    pub(crate) fn read_data(&self, host: HostOffset, buf: &mut [u8]) -> Result<()> {
        let Some(file) = self.data_file() else {
            return self.file().read_exact(buf, host);
        };
        file.read_exact(buf, host)
            .map_err(|error| error.elsewhere(file.path()))
    }

    /// Decompresses the cluster that holds the bytes of `guest`.
    pub(crate) fn decode(
        &self,
        decoder: &mut Decoder,
        stream: Stream,
        guest: Range<u64>,
        cluster: &mut [u8],
    ) -> Result<()> {
        let compression = self.header().compression();
        decoder.read(self.file(), stream, compression, guest, cluster)
    }

    /// The same, and appends the stream as it is to `streams`. Returns its length in bytes.
    pub(crate) fn copy_stream(
        &self,
        decoder: &mut Decoder,
        stream: Stream,
        guest: Range<u64>,
        cluster: &mut [u8],
        streams: &mut Vec<u8>,
    ) -> Result<usize> {
        let compression = self.header().compression();
        decoder.copy(self.file(), stream, compression, guest, cluster, streams)
    }
}

/// The external data file, and its path.
fn data_file(image: &Image, access: &Access, is_first: bool) -> Result<(PathBuf, HostFile)> {
    let given = access.data_file.as_deref();
    let path = data_path(image, given, access.follow)?;
    let file = HostFile::open(&path).map_err(|error| match given {
        Some(_) => error,
        None => missing(error, Role::Data, image.file().path(), is_first),
    });
    let file = file.map_err(|error| error.elsewhere(&path))?;
    Ok((path, file))
}

/// Where the external data file is.
fn data_path(image: &Image, given: Option<&Path>, follow: bool) -> Result<PathBuf> {
    let name = image.extensions().data_file.as_deref();
    match (given, name) {
        (Some(path), _) => Ok(path.to_owned()),
        (None, Some(name)) if follow => resolved(image.file().path(), name),
        (None, Some(name)) => Err(needs(Role::Data, name)),
        (None, None) => Err(Invalid::NamelessFile(Role::Data).into()),
    }
}
