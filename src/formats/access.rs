//! What is wanted of an image, and what may be opened for it.

use std::path::PathBuf;

use super::cipher::Password;
use super::format::Format;
use crate::error::{Invalid, Role};

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
    /// What decrypts the image, and its backing files, if they are encrypted.
    pub password: Option<Password>,
    /// What the backing files are, from the first on, whatever the images say. Those behind the last that is given:
    /// as the images say.
    pub backing_formats: Vec<Format>,
}

impl Access {
    /// Refuses, for a raw disk, what can be asked for of an image only.
    pub(crate) fn refuse_of_raw(&self) -> Result<(), Invalid> {
        if self.backing.is_some() {
            return Err(Invalid::NeedsNoFile(Role::Backing));
        }
        self.refuse_of_legacy()
    }

    /// Refuses, for an image of a simpler format, what can be asked for of qcow2 only.
    ///
    /// # Errors
    ///
    /// [`Invalid`] that says what it does not have.
    pub fn refuse_of_legacy(&self) -> Result<(), Invalid> {
        if self.data_file.is_some() {
            return Err(Invalid::NeedsNoFile(Role::Data));
        }
        match self.snapshot.clone() {
            Some(wanted) => Err(Invalid::NoSuchSnapshot { wanted }),
            None => Ok(()),
        }
    }
}
