//! mkqcow2 as its users meet it, held against programs that share no code with it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    missing_docs,
    unreachable_pub,
    reason = "a test that panics has failed, which is what it is for"
)]

mod agreement;
mod caches;
mod check;
mod checksums;
mod compare;
mod compress;
mod corpus;
mod damaged;
mod dedupe;
mod devices;
mod disk;
mod durable;
mod elsewhere;
mod endings;
mod failing;
mod faults;
mod filesystems;
mod format;
mod formats;
mod ground;
mod info;
mod layout;
#[allow(
    dead_code,
    reason = "what commands make of the rows is told before there are commands"
)]
mod malformed;
mod manual;
mod map;
mod mutations;
mod naive;
mod plain;
mod property;
mod refusals;
mod regions;
mod reports;
mod restore;
mod rights;
mod shared;
mod stale;
mod stdout;
mod structure;
mod support;
mod targets;
mod unknown_use;
mod unreadable;
mod used_only;
mod verify;
mod writable;
