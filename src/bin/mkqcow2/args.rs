//! The command lines, and what they mean: one module a command, and what several of them share.

pub(crate) mod check;
pub(crate) mod compare;
pub(crate) mod create;
pub(crate) mod info;
pub(crate) mod map;
pub(crate) mod merge;
pub(crate) mod mount;
pub(crate) mod restore;
pub(crate) mod shared;
mod values;
pub(crate) mod verify;
