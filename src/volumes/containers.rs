//! What holds volumes: partition tables, RAIDs, volume managers, encryption.

pub(super) mod bitlocker;
pub(super) mod luks;
pub(super) mod lvm;
pub(super) mod md;
pub(super) mod partitions;
