//! Entries of the snapshot table. Spec: qcow2.txt, "Snapshots".

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::units::{Exact, HostOffset, to_u64, to_usize};

/// QEMU's limit for the extra data of an entry, in bytes.
pub const MAX_EXTRA: u64 = 1024;

/// The first 40 bytes of an entry. Extra data, the ID and the name follow; the next entry begins at a multiple of 8.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawSnapshot {
    /// 0: host offset of the L1 table, aligned to a cluster.
    pub l1_table_offset: U64,
    /// 8: number of entries of the L1 table.
    pub l1_size: U32,
    /// 12: length of the ID in bytes.
    pub id_str_size: U16,
    /// 14: length of the name in bytes.
    pub name_size: U16,
    /// 16: when it was taken, in seconds since 1970.
    pub date_sec: U32,
    /// 20: and nanoseconds.
    pub date_nsec: U32,
    /// 24: how long the guest had run, in nanoseconds.
    pub vm_clock_nsec: U64,
    /// 32: size of the state of the virtual machine in bytes; see the extra data.
    pub vm_state_size: U32,
    /// 36: length of the extra data in bytes.
    pub extra_data_size: U32,
}
const _: () = assert!(size_of::<RawSnapshot>() == 40);

/// The extra data, as much of it as there is; the rest is zeros.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawExtra {
    /// 0: size of the state of the virtual machine in bytes.
    vm_state_size: U64,
    /// 8: size of the virtual disk in bytes.
    disk_size: U64,
}
const _: () = assert!(size_of::<RawExtra>() == 16);

impl RawSnapshot {
    /// How many bytes follow: extra data, ID and name, without the padding.
    pub fn rest(&self) -> u64 {
        u64::from(self.extra_data_size.get())
            .plus(self.id_str_size.get().into())
            .plus(self.name_size.get().into())
    }
}

/// An internal snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its ID, in digits as a rule.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where its L1 table is; not validated.
    pub l1_at: HostOffset,
    /// How many entries that has; not validated.
    pub l1_entries: u64,
    /// When it was taken: seconds and nanoseconds since 1970.
    pub date: (u32, u32),
    /// How long the guest had run, in nanoseconds.
    pub vm_clock: u64,
    /// Size of the state of the virtual machine in bytes.
    pub vm_state_size: u64,
    /// Size of the virtual disk in bytes, if it is told.
    pub disk_size: Option<u64>,
    /// How many bytes its entry takes.
    pub entry_length: u64,
}

impl Snapshot {
    /// From the first bytes and [the rest](RawSnapshot::rest) of an entry.
    pub fn new(raw: &RawSnapshot, rest: &[u8]) -> Self {
        let extra_length = to_usize(raw.extra_data_size.get().into()).min(rest.len());
        let (extra, names) = rest.split_at(extra_length);
        let (id, name) = names.split_at(usize::from(raw.id_str_size.get()).min(names.len()));
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let sizes = RawExtra::read_from_prefix(extra).ok().map(|(extra, _)| extra);
        let large = extra.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        Self {
            id: text(id),
            name: text(name),
            l1_at: HostOffset(raw.l1_table_offset.get()),
            l1_entries: raw.l1_size.get().into(),
            date: (raw.date_sec.get(), raw.date_nsec.get()),
            vm_clock: raw.vm_clock_nsec.get(),
            vm_state_size: large.unwrap_or(raw.vm_state_size.get().into()),
            disk_size: sizes.map(|sizes| sizes.disk_size.get()),
            entry_length: entry_length(raw),
        }
    }
}

/// The whole length of an entry in bytes, with the padding.
pub fn entry_length(raw: &RawSnapshot) -> u64 {
    to_u64(size_of::<RawSnapshot>())
        .plus(raw.rest())
        .next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros;

    use super::*;

    #[test]
    fn extra_data_is_taken_as_far_as_it_goes() {
        let mut raw = RawSnapshot::new_zeroed();
        raw.id_str_size = 1.into();
        raw.name_size = 4.into();
        raw.vm_state_size = 7.into();
        let snapshot = Snapshot::new(&raw, b"1home");
        assert_eq!((snapshot.id.as_str(), snapshot.name.as_str()), ("1", "home"));
        assert_eq!((snapshot.vm_state_size, snapshot.disk_size), (7, None));

        raw.extra_data_size = 16.into();
        let rest = b"\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\x02\x001home";
        let snapshot = Snapshot::new(&raw, rest);
        assert_eq!(snapshot.name, "home");
        assert_eq!((snapshot.vm_state_size, snapshot.disk_size), (9, Some(512)));
        assert_eq!(entry_length(&raw), 64);
    }
}
