//! An image file that is changed in places that are found as the specification has it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
pub(super) const COPIED: u64 = 1 << 63;

/// An image that is open for changes.
pub(super) struct Poke {
    file: File,
}

impl Poke {
    pub(super) fn open(path: &Path) -> Self {
        let file = File::options().read(true).write(true).open(path).unwrap();
        Self { file }
    }

    pub(super) fn get<const N: usize>(&self, at: u64) -> u64 {
        let mut bytes = [0; N];
        self.file.read_exact_at(&mut bytes, at).unwrap();
        bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    pub(super) fn put<const N: usize>(&self, at: u64, value: u64) {
        let bytes = value.to_be_bytes();
        self.file.write_all_at(&bytes[8 - N..], at).unwrap();
    }

    /// A number of 64 bits, changed.
    pub(super) fn edit(&self, at: u64, change: impl Fn(u64) -> u64) {
        self.put::<8>(at, change(self.get::<8>(at)));
    }

    pub(super) fn write(&self, at: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, at).unwrap();
    }

    pub(super) fn fill(&self, at: u64, length: usize, byte: u8) {
        self.write(at, &vec![byte; length]);
    }

    pub(super) fn length(&self) -> u64 {
        self.file.metadata().unwrap().len()
    }

    pub(super) fn resize(&self, length: u64) {
        self.file.set_len(length).unwrap();
    }

    pub(super) fn cluster(&self) -> u64 {
        1 << self.get::<4>(20)
    }

    /// Where an entry of the active L1 table stands.
    pub(super) fn l1(&self, index: u64) -> u64 {
        self.get::<8>(40) + 8 * index
    }

    /// Where the L2 table of an L1 entry is.
    pub(super) fn table(&self, index: u64) -> u64 {
        self.get::<8>(self.l1(index)) & OFFSET
    }

    /// Where the L2 entry of a cluster of the disk stands, in the first L2 table.
    pub(super) fn l2(&self, cluster: u64) -> u64 {
        let is_extended = self.get::<4>(4) == 3 && self.get::<8>(72) & 1 << 4 != 0;
        self.table(0) + cluster * if is_extended { 16 } else { 8 }
    }

    /// Where a cluster of the disk is in the image.
    pub(super) fn host(&self, cluster: u64) -> u64 {
        self.get::<8>(self.l2(cluster)) & OFFSET
    }

    pub(super) fn refcount_table(&self) -> u64 {
        self.get::<8>(48)
    }

    /// Where the refcount of 16 bits of a host offset stands, in the first refcount block.
    pub(super) fn refcount(&self, host: u64) -> u64 {
        self.get::<8>(self.refcount_table()) + host / self.cluster() * 2
    }

    /// Where the first entry of the snapshot table is.
    pub(super) fn snapshot(&self) -> u64 {
        self.get::<8>(64)
    }

    /// Where a header extension begins.
    pub(super) fn extension(&self, kind: u64) -> u64 {
        let mut at = self.get::<4>(100);
        while self.get::<4>(at) != kind {
            assert!(self.get::<4>(at) != 0, "there is no extension {kind:#x}");
            at += 8 + self.get::<4>(at + 4).next_multiple_of(8);
        }
        at
    }
}
