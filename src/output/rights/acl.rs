//! POSIX ACLs as the kernel has them in extended attributes. Source: acl(5), `linux/posix_acl_xattr.h`.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// The only version there is.
const VERSION: u32 = 2;

/// Who an entry is about.
const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const OWNING_GROUP: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHERS: u16 = 0x20;

/// One line of an ACL.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Entry {
    /// 0: who it is about.
    tag: U16,
    /// 2: read 4, write 2, execute 1.
    permissions: U16,
    /// 4: of a user or group that is named.
    _id: U32,
}

const _: () = assert!(size_of::<Entry>() == 8);

/// Who may do what.
#[derive(Debug)]
pub(super) struct Acl<'a> {
    entries: &'a [Entry],
}

impl<'a> Acl<'a> {
    /// None if it is no ACL that is known.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (version, rest) = U32::ref_from_prefix(bytes).ok()?;
        let entries = <[Entry]>::ref_from_bytes(rest).ok()?;
        (version.get() == VERSION).then_some(Self { entries })
    }

    /// The mode that, without an ACL, gives nobody what this one does not give them.
    pub(super) fn narrowest(&self) -> u32 {
        let mask = self.all(MASK);
        // The owning group: but users who are named have what is said of them, even if they are members.
        let group = self.all(OWNING_GROUP) & mask & (self.all(USER) & mask | !self.named(USER));
        // All others: and among them users and groups that are named.
        let named = (self.all(USER) & self.all(GROUP) & mask) | !(self.named(USER) | self.named(GROUP));
        let others = self.all(OTHERS) & named;
        self.all(OWNER) << 6 | group << 3 | others
    }

    /// What all entries of a kind give; everything if there is none.
    fn all(&self, tag: u16) -> u32 {
        let of_kind = self.entries.iter().filter(|entry| entry.tag.get() == tag);
        of_kind.fold(0o7, |all, entry| all & u32::from(entry.permissions.get()))
    }

    /// Everything if there is an entry of a kind, else nothing.
    fn named(&self, tag: u16) -> u32 {
        if self.entries.iter().any(|entry| entry.tag.get() == tag) {
            0o7
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(entries: &[(u16, u16)]) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for (tag, permissions) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(1000_u32.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn the_narrowest_mode_gives_nobody_more() {
        let plain = [(OWNER, 6), (OWNING_GROUP, 4), (OTHERS, 4)];
        let with = |more: &[(u16, u16)]| [&plain[..], more].concat();
        for (entries, expected) in [
            (plain.to_vec(), 0o644),
            (with(&[(MASK, 0)]), 0o604),
            (with(&[(USER, 4), (MASK, 4)]), 0o644),
            // A user who has nothing may be a member of the group, and is one of the others.
            (with(&[(USER, 0), (MASK, 4)]), 0o600),
            (with(&[(USER, 4), (MASK, 0)]), 0o600),
            // Members of the owning group and of another have what either gives.
            (with(&[(GROUP, 0), (MASK, 4)]), 0o640),
            (with(&[(USER, 6), (GROUP, 6), (MASK, 6)]), 0o644),
            (with(&[(USER, 6), (GROUP, 2), (MASK, 6)]), 0o640),
            // The mask is not the group's.
            (
                vec![(OWNER, 6), (USER, 4), (OWNING_GROUP, 0), (MASK, 4), (OTHERS, 0)],
                0o600,
            ),
        ] {
            let bytes = bytes(&entries);
            let found = Acl::parse(&bytes).unwrap().narrowest();
            assert_eq!(found, expected, "{found:o} {entries:?}");
        }
    }

    #[test]
    fn what_is_no_acl_is_told() {
        let good = bytes(&[(OWNER, 6)]);
        assert!(Acl::parse(&good).is_some());
        let mut other = good.clone();
        other[0] = 3;
        for bad in [&b""[..], &good[..3], &good[..11], &other] {
            assert!(Acl::parse(bad).is_none(), "{bad:?}");
        }
    }
}
