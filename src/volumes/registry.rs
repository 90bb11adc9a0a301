//! What is looked for: one line a container, a filesystem.

use super::answer::{self, Answer};
use super::scheme::{Reader, Scheme};
use super::view::View;
use super::{containers, filesystems, opaque};

/// Those that are looked for in a whole disk.
pub(super) const TABLES: &[Scheme] = &[containers::partitions::SCHEME];

/// Those that are looked for in a whole disk and in each partition.
pub(super) const FILESYSTEMS: &[Scheme] = &[
    filesystems::btrfs::SCHEME,
    filesystems::exfat::SCHEME,
    filesystems::ext::SCHEME,
    filesystems::fat::SCHEME,
    filesystems::xfs::SCHEME,
    filesystems::swap::SCHEME,
];

/// What can be read of formats that are recognised by their signatures.
pub(super) const READERS: &[Reader] = &[
    containers::bitlocker::READER,
    containers::luks::READER,
    containers::lvm::READER,
    containers::md::READER,
];

/// Whether a stretch looks like anything that is known, other than a table.
pub(super) fn is_anything(view: View<'_>) -> Answer {
    let schemes = FILESYSTEMS.iter().map(|scheme| (scheme.is)(view));
    let is_opaque = std::iter::once_with(|| Ok(opaque::name(view)?.is_some()));
    answer::any(schemes.chain(is_opaque))
}
