//! What holds volumes: partition tables.

pub(super) mod partitions;
