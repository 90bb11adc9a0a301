//! What tells which of its blocks are in use. Filesystems know nothing of each other.

mod bits;
pub(super) mod btrfs;
mod directories;
pub(super) mod exfat;
pub(super) mod ext;
pub(super) mod fat;
mod heap;
pub(super) mod swap;
pub(super) mod xfs;
