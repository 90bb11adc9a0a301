//! mkqcow2 as its users meet it, held against programs that share no code with it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed, which is what it is for"
)]
#![expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "numbers of tests are chosen to fit, or meant to lose bits"
)]
#![expect(
    unreachable_pub,
    reason = "what is public is so for the other modules: nothing is outside"
)]

mod agreement;
mod bases;
mod caches;
mod chains;
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
mod fit;
mod format;
mod formats;
mod ground;
mod guards;
mod histories;
mod info;
mod largest;
mod layout;
mod malformed;
mod manual;
mod map;
mod merge;
mod messages;
mod mount;
mod mutations;
mod naive;
mod new_ids;
mod overwrite;
mod parts;
mod piped;
mod plain;
mod property;
mod provenance;
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
mod terminal;
mod unknown_use;
mod unmarked;
mod unreadable;
mod used_only;
mod verify;
mod writable;
