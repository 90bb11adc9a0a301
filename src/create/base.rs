//! The image that an incremental one stands on.

use std::ffi::OsString;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::report::FullInstead;
use crate::disk::Disk;
use crate::error::{Action, Error, Invalid, Result, Unfit};
use crate::formats::qcow2::structures::identity::BaseIdentity;
use crate::formats::{self, Access, AnyDisk, Chain, MAX_DEPTH, Opening};
use crate::output::Place;
use crate::units::to_u64;

/// An image that is whole, is what it was when it was made, and so is everything that it stands on itself.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) disk: Chain,
    pub(crate) identity: BaseIdentity,
    /// What the new image calls it.
    pub(crate) name: OsString,
}

impl Base {
    /// Opens it, with all that it stands on.
    ///
    /// # Errors
    ///
    /// With its path:
    ///
    /// - Those of [`formats::open`].
    /// - [`Invalid::Unfit`] if it is no image to stand on.
    /// - [`Error::Corrupt`] if what it records is damaged.
    pub(crate) fn open(path: &Path, image: &Place) -> Result<Self> {
        // Of a file behind it, the name is there already.
        Self::open_named(path, image).map_err(|error| error.elsewhere(path))
    }

    fn open_named(path: &Path, image: &Place) -> Result<Self> {
        // Each is held to the identity that the one before it records.
        let opening = Opening::image(Access {
            follow: true,
            ..Access::default()
        });
        let AnyDisk::Image(disk) = formats::open(path, &opening)? else {
            return unfit(Unfit::Foreign);
        };
        let mut disk = *disk;
        if disk.depth() > MAX_DEPTH {
            return unfit(Unfit::Deep(MAX_DEPTH));
        }
        let identity = identity(&disk)?;
        disk.hold_to_checksums()?;
        let name = name(path, image)?;
        Ok(Self { disk, identity, name })
    }

    /// The first range in `range` that is data on it, in bytes.
    ///
    /// # Errors
    ///
    /// Those of [`Disk::data_in`], with the path of the file.
    pub(super) fn data_in(&self, range: Range<u64>) -> Result<Option<Range<u64>>> {
        let data = self.disk.data_in(range);
        data.map_err(|error| self.disk.of_base(error))
    }

    /// Why a full image is made instead.
    pub(super) fn full_instead(error: &Error, path: &Path) -> FullInstead {
        let (inner, innermost) = error.innermost();
        let mut why = inner.to_string();
        if let Error::Io { source, .. } = inner {
            let text = source.to_string();
            // Nobody knows the number by heart.
            why = format!("{why}: {}", text.split(" (os error").next().unwrap_or(&text));
        }
        let path = innermost.unwrap_or(path).to_owned();
        FullInstead { path, why }
    }

    /// Refuses a name that does not fit into the header.
    pub(crate) fn refuse_long_name(&self, limit: u64) -> Result<(), Invalid> {
        let length = self.name.len();
        if to_u64(length) > limit {
            return Err(Invalid::BaseName { length, limit });
        }
        Ok(())
    }
}

fn unfit<T>(unfit: Unfit) -> Result<T> {
    Err(Invalid::Unfit(unfit).into())
}

/// Which image it is. Those behind it were held to what it records of them.
fn identity(disk: &Chain) -> Result<BaseIdentity> {
    let Some(image) = disk.image() else {
        return unfit(Unfit::Foreign);
    };
    let identity = image.identity()?;
    if image.backing_name().is_some() && image.promised()?.is_none() {
        return unfit(Unfit::Changed);
    }
    Ok(identity)
}

/// The path of the base as it is seen from the directory of the image; from the root, if the image is a stream.
fn name(base: &Path, image: &Place) -> Result<OsString> {
    let base = canonical_but_for_name(base)?;
    let name = match image {
        Place::Stdout => base,
        Place::Path(image) => {
            let image = canonical_but_for_name(image)?;
            relative(&base, image.parent().unwrap_or(Path::new("/")))
        }
    };
    // A colon in front of the first slash would make it the name of a protocol.
    let first = name
        .as_os_str()
        .as_bytes()
        .iter()
        .find(|byte| b":/".contains(byte));
    let name = if first == Some(&b':') {
        Path::new(".").join(name)
    } else {
        name
    };
    Ok(name.into_os_string())
}

/// The path with its directory as it is without symbolic links; the file itself need not be there.
fn canonical_but_for_name(path: &Path) -> Result<PathBuf> {
    let failed = |error| Error::target_io(Action::Examine, error);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory
        .unwrap_or(Path::new("."))
        .canonicalize()
        .map_err(failed)?;
    Ok(path
        .file_name()
        .map_or(directory.clone(), |name| directory.join(name)))
}

/// An absolute path as seen from an absolute directory.
fn relative(path: &Path, from: &Path) -> PathBuf {
    let common = path.components().zip(from.components());
    let common = common.take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    up.chain(path.components().skip(common)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_named_as_seen_from_the_image() {
        for (base, from, expected) in [
            ("/a/b/x", "/a/b", "x"),
            ("/a/b/x", "/a", "b/x"),
            ("/a/x", "/a/b/c", "../../x"),
            ("/x", "/a", "../x"),
            ("/a/x", "/", "a/x"),
            ("/ab/x", "/a", "../ab/x"),
        ] {
            assert_eq!(relative(Path::new(base), Path::new(from)), Path::new(expected));
        }
    }

    #[test]
    fn a_name_is_never_taken_for_a_protocol() {
        let directory = std::env::temp_dir();
        let found = name(&directory.join("a:b"), &Place::Path(directory.join("image"))).unwrap();
        assert_eq!(found, "./a:b");
    }
}
