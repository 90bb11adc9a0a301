//! Checksums of physical volumes of LVM, and of members of md arrays.

use mkqcow2::disk::Disk as _;

use super::{Patched, crc};

impl Patched<'_> {
    /// Of the label of a physical volume, and of the headers and texts that it leads to.
    pub(super) fn sum_up_lvm(&mut self) {
        let mut at = 584;
        let next = |disk: &Self, at: &mut u64| {
            let area = [*at, *at + 8].map(|at| u64::from_le_bytes(disk.get(at)));
            *at += 16;
            (area[0] != 0 && *at < 1024).then_some(area)
        };
        while next(self, &mut at).is_some() {}
        while let Some([start, size]) = next(self, &mut at) {
            let [offset, length] = [40, 48].map(|at| u64::from_le_bytes(self.get(start.saturating_add(at))));
            let is_there = start.checked_add(size).is_some_and(|end| end <= self.len());
            if !is_there || offset >= size || length > size || size < 1024 {
                continue;
            }
            let here = length.min(size - offset);
            let mut text = vec![0; length as usize];
            let (front, behind) = text.split_at_mut(here as usize);
            self.copy(front, start + offset);
            self.copy(behind, start + 512);
            self.put(start + 56, &lvm_crc(&text).to_le_bytes());
            let header: [u8; 512] = self.get(start);
            self.put(start, &lvm_crc(&header[4..]).to_le_bytes());
        }
        let label: [u8; 512] = self.get(512);
        self.put(512 + 16, &lvm_crc(&label[20..]).to_le_bytes());
    }

    /// Of a superblock of md, version 1.
    pub(super) fn sum_up_raid(&mut self, at: u64) {
        let length = 256 + 2 * self.u32(at + 220).min(1920);
        self.put(at + 216, &[0; 4]);
        let mut bytes = vec![0; length.next_multiple_of(4) as usize];
        self.copy(&mut bytes[..length as usize], at);
        let words = bytes
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes(word.try_into().expect("four")));
        let sum: u64 = words.map(u64::from).sum();
        let sum = ((sum >> 32) as u32).wrapping_add(sum as u32);
        self.put(at + 216, &sum.to_le_bytes());
    }
}

/// LVM's: it begins with a number of its own.
pub fn lvm_crc(bytes: &[u8]) -> u32 {
    crc(0xedb8_8320, 0xf597_a6cf, bytes)
}
