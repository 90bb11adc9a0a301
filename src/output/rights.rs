//! Whose a new image is, and who may read it: the same as of the one it replaces, or fewer.

mod acl;

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::devices::own_path;
use acl::Acl;

/// Where the ACL of a file is. Source: `linux/xattr.h`.
const ACL: &str = "system.posix_acl_access";

/// No attribute, and no list of their names, is longer. Source: `linux/limits.h`, `XATTR_SIZE_MAX`.
const MAX_ATTRIBUTE: usize = 1 << 16;

/// What security modules know of a file that is of no use to another: what it may do when it is run, and seals of its
/// content and its inode.
const OF_THAT_FILE: [&str; 6] = [
    "security.capability",
    "security.ima",
    "security.evm",
    "security.SMACK64EXEC",
    "security.SMACK64MMAP",
    "security.SMACK64TRANSMUTE",
];

/// What the new image has of the one that it replaces, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Owner and group are the same.
    pub owner: bool,
    /// ACL and security labels are the same.
    pub rights: bool,
}

impl Kept {
    /// Everything that there was.
    pub const ALL: Self = Self {
        owner: true,
        rights: true,
    };
}

/// Gives `new` the owner, the mode, the ACL and the security labels of `old`. Where that cannot be, only those may read
/// or write `new` who may do so with `old`.
pub(super) fn keep(old: &File, new: &File) -> io::Result<Kept> {
    let (found, own) = (old.metadata()?, new.metadata()?);
    let mut kept = Kept::ALL;
    let mut keeps_group = true;
    if (own.uid(), own.gid()) != (found.uid(), found.gid())
        && fchown(new, Some(found.uid()), Some(found.gid())).is_err()
    {
        kept.owner = false;
        // The group alone, at least.
        keeps_group = fchown(new, None, Some(found.gid())).is_ok();
    }
    let (mode, keeps_acl) = keep_acl(old, new, found.mode() & 0o777, keeps_group);
    kept.rights = keep_labels(old, new).is_ok() && keeps_acl;
    // A change of the owner may have cleared bits. FAT and its like have one mode for all, and allow nobody else to
    // set it, not even to what it is.
    if new.metadata()?.mode() & 0o7777 != mode {
        new.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(kept)
}

/// Gives `new` the ACL of `old`, or none. Returns the mode that it must have, and whether the ACL is kept.
fn keep_acl(old: &File, new: &File, mode: u32, keeps_group: bool) -> (u32, bool) {
    let Ok(found) = attribute(&own_path(old), ACL) else {
        // What stands for the group may be the mask of others.
        return (mode & 0o700, false);
    };
    let without_group = |mode: u32| if keeps_group { mode } else { without_group(mode) };
    if let Some(bytes) = found {
        if keeps_group && rustix::fs::fsetxattr(new, ACL, &bytes, XattrFlags::empty()).is_ok() {
            return (mode, true);
        }
        let narrow = Acl::parse(&bytes).map_or(mode & 0o700, |acl| acl.narrowest());
        return (without_group(drop_acl(new, narrow).0), false);
    }
    let (mode, is_dropped) = drop_acl(new, mode);
    (without_group(mode), is_dropped)
}

/// The directory may give every new file an ACL, with users who were not meant. Takes it away; if that fails, it gives
/// them nothing.
fn drop_acl(new: &File, mode: u32) -> (u32, bool) {
    let has_one = !matches!(attribute(&own_path(new), ACL), Ok(None));
    if has_one && rustix::fs::fremovexattr(new, ACL).is_err() {
        (mode & 0o700, false)
    } else {
        (mode, true)
    }
}

/// The mode if the file belongs to another group, whose members must not get the rights of the old one, which has
/// those of others now.
fn without_group(mode: u32) -> u32 {
    mode & 0o700 | mode & mode >> 3 & 0o007
}

/// Gives `new` the security labels of `old`.
fn keep_labels(old: &File, new: &File) -> rustix::io::Result<()> {
    let (from, to) = (own_path(old), own_path(new));
    let mut names = vec![0; MAX_ATTRIBUTE];
    let length = match rustix::fs::listxattr(&from, names.as_mut_slice()) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
        result => result?,
    };
    names.truncate(length);
    let names = names.split(|byte| *byte == 0);
    // A name that is no text is none of those that are known.
    let names = names.filter_map(|name| std::str::from_utf8(name).ok());
    let mut result = Ok(());
    for name in names.filter(|name| name.starts_with("security.") && !OF_THAT_FILE.contains(name)) {
        // What it is by itself, by the rules of the system, need not be allowed.
        match attribute(&from, name) {
            Ok(Some(label)) if attribute(&to, name) != Ok(Some(label.clone())) => {
                result = result.and(rustix::fs::fsetxattr(new, name, &label, XattrFlags::empty()));
            }
            Ok(_) => {}
            Err(error) => result = Err(error),
        }
    }
    result
}

/// An extended attribute; none if the file has it not, or the filesystem none at all.
fn attribute(path: &Path, name: &str) -> rustix::io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; MAX_ATTRIBUTE];
    match rustix::fs::getxattr(path, name, value.as_mut_slice()) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_not_kept_gets_no_more_as_others() {
        for (mode, expected) in [
            (0o640, 0o600),
            (0o644, 0o604),
            (0o604, 0o600),
            (0o624, 0o600),
            (0o666, 0o606),
        ] {
            assert_eq!(without_group(mode), expected, "{mode:o}");
        }
    }
}
