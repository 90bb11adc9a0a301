//! Which image it is, as long as it is what it was.

use super::qcow2::Image;
use super::qcow2::structures::identity::BaseIdentity;
use crate::error::{Invalid, Result, Unfit};

impl Image {
    /// Which image it is, if it is whole and what it was when it was made.
    ///
    /// # Errors
    ///
    /// - [`Invalid::Unfit`] if it does not tell, or was changed since.
    /// - [`Error::Corrupt`](crate::Error::Corrupt) if what it records is damaged, or the file was cut off.
    /// - [`Error::Io`](crate::Error::Io) if it cannot be read.
    pub(crate) fn identity(&self) -> Result<BaseIdentity> {
        let unfit = |unfit| Err(Invalid::Unfit(unfit).into());
        if self.extensions().ours.is_some() && !self.is_as_written() {
            return unfit(if self.is_outdated() {
                Unfit::Changed
            } else {
                Unfit::Doubtful
            });
        }
        let Some(record) = self.record()? else {
            return unfit(Unfit::Foreign);
        };
        if let Some(cut_off) = record.cut_off(self)? {
            return Err(cut_off);
        }
        // Another program made it the other version, and may have made other changes.
        if record.image_version != Some(self.header().compat().version()) {
            return unfit(Unfit::Changed);
        }
        match record.identity {
            Some(identity) => Ok(BaseIdentity {
                identity,
                size: self.header().geometry().size(),
            }),
            None => unfit(Unfit::Nameless),
        }
    }

    /// Refuses an image that is not the one that another stands on.
    ///
    /// # Errors
    ///
    /// Those of [`identity`](Self::identity), and [`Invalid::Unfit`] if it is another.
    pub(crate) fn hold_to(&self, expected: &BaseIdentity) -> Result<()> {
        let found = self.identity()?;
        let (here, there) = (found.identity, expected.identity);
        let unfit = if here.uuid != there.uuid {
            Unfit::Another {
                found: here.uuid,
                expected: there.uuid,
            }
        } else if found.size != expected.size {
            Unfit::Size {
                found: found.size,
                expected: expected.size,
            }
        } else if there.disk.is_some() && here.disk != there.disk {
            Unfit::Digest
        } else {
            return Ok(());
        };
        Err(Invalid::Unfit(unfit).into())
    }

    /// The image that this one stands on, if it records that, and is what it was.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`](crate::Error::Corrupt) if what it records is damaged, so that any image could be taken for that one.
    /// - [`Error::Io`](crate::Error::Io) if it cannot be read.
    pub(crate) fn promised(&self) -> Result<Option<BaseIdentity>> {
        if self.backing_name().is_none() || self.is_outdated() {
            return Ok(None);
        }
        let version = Some(self.header().compat().version());
        let record = self.record()?;
        Ok(record
            .filter(|record| record.image_version == version)
            .and_then(|record| record.base))
    }
}
