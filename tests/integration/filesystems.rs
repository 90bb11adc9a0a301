//! Filesystems and partition tables: what their maps call free, nobody misses.

mod btrfs;
mod damage;
mod encrypted;
mod exfat;
mod ext;
mod fat;
mod journal;
pub mod lvm;
mod named;
mod neighbours;
mod opaque;
mod oracle;
pub mod partitions;
mod patched;
pub mod proof;
mod raid;
mod swap;
mod unclear;
mod xfs;
