//! What superblocks of all versions have in common.

use std::ops::Range;

use crate::volumes::doubt::Doubt;
use crate::volumes::region::Detail;

pub(super) const MAGIC: u32 = 0xa92b_4efc;

/// The level of mirrors.
pub(super) const MIRROR: i32 = 1;

/// The doubts that superblocks of both versions share.
pub(super) const UNCLEAN: Doubt =
    Doubt::State("its array was in use, or was not shut down cleanly: members may differ");
pub(super) const INACTIVE: Doubt = Doubt::State("it is a spare, or was taken out of its array");

/// What a superblock says, whatever its version.
#[derive(Debug)]
pub(super) struct Superblock {
    /// Such as `1.2`.
    pub(super) version: &'static str,
    /// 0, 1, 4, 5, 6, 10; below 0 what is no RAID.
    pub(super) level: i32,
    pub(super) uuid: String,
    /// The name of the array, if it has one.
    pub(super) label: Option<String>,
    /// Where the content lies in the member, if this is one of a mirror; else why it cannot be told or trusted.
    pub(super) content: Result<Range<u64>, Doubt>,
}

/// What a superblock looks like at first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) is_mirror: bool,
    /// The content begins where the stretch begins, so that it can be recognised there as if there were no array.
    pub(super) is_around: bool,
}

impl Superblock {
    pub(super) fn details(&self) -> Vec<Detail> {
        vec![
            Detail::new("uuid", self.uuid.clone()),
            Detail::new("level", self.level_name()),
            Detail::new("metadata", self.version),
        ]
    }

    /// As mdadm calls it.
    pub(super) fn level_name(&self) -> String {
        match self.level {
            -1 => "linear".to_owned(),
            -4 => "multipath".to_owned(),
            -5 => "faulty".to_owned(),
            -100 => "container".to_owned(),
            level => format!("raid{level}"),
        }
    }
}

/// An array's identity as mdadm writes it: four words in hexadecimal.
pub(super) fn uuid(words: [u32; 4]) -> String {
    words.map(|word| format!("{word:08x}")).join(":")
}

/// The sum of words as md keeps it: both halves of it added.
pub(super) fn folded(sum: u64) -> u32 {
    let halves = [sum & 0xffff_ffff, sum >> 32].map(|half| u32::try_from(half).unwrap_or(0));
    halves[0].wrapping_add(halves[1])
}
