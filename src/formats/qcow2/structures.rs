//! The structures of qcow2 as they stand on disk: no I/O, no threads.
//!
//! Source: docs/interop/qcow2.txt of QEMU, whose names and order the fields keep. All integers are big-endian.

#![warn(clippy::arithmetic_side_effects)]

pub mod bitmap;
pub mod checksum;
pub mod digest;
pub mod extension;
pub mod extensions;
pub mod features;
pub mod geometry;
pub mod header;
pub mod identity;
pub mod mapping;
pub mod provenance;
pub mod record;
pub mod refcount;
pub mod snapshot;
