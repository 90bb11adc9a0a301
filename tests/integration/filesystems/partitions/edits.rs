//! Changes to tables that no tool would make.

use std::ops::Range;

/// The bytes of a disk that are being changed.
pub struct Edits {
    bytes: Vec<u8>,
}

impl Edits {
    pub fn of(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub fn put(&mut self, at: u64, bytes: &[u8]) {
        self.bytes[at as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    pub fn wreck(&mut self, at: u64) {
        self.bytes[at as usize] ^= 0x40;
    }

    /// Takes a range over from another disk.
    pub fn splice(&mut self, other: &[u8], range: Range<u64>) {
        let range = range.start as usize..range.end as usize;
        self.bytes[range.clone()].copy_from_slice(&other[range]);
    }

    /// Writes an entry, counted from 0, of the MBR or EBR at `table`.
    pub fn mbr_entry(&mut self, table: u64, index: u64, kind: u8, first: u32, sectors: u32) {
        let mut entry = [0; 16];
        entry[4] = kind;
        entry[8..12].copy_from_slice(&first.to_le_bytes());
        entry[12..].copy_from_slice(&sectors.to_le_bytes());
        self.put(table + 446 + index * 16, &entry);
    }

    /// Makes a sector an EBR without entries.
    pub fn mbr_signature(&mut self, table: u64) {
        self.put(table, &[0; 510]);
        self.put(table + 510, &[0x55, 0xaa]);
    }

    /// Moves the first of the entries of a GPT.
    pub fn gpt_entry(&mut self, entries: u64, first: u64, last: u64) {
        self.put(entries + 32, &first.to_le_bytes());
        self.put(entries + 40, &last.to_le_bytes());
    }

    /// Makes entry `index`, counted from 0, one like the first in another place.
    pub fn gpt_copy(&mut self, entries: u64, index: u64, first: u64, last: u64) {
        let like = self.bytes[entries as usize..][..128].to_vec();
        self.put(entries + index * 128, &like);
        self.gpt_entry(entries + index * 128, first, last);
    }

    /// Makes 64 entries of 256 bytes of the first 64 of 128 entries.
    pub fn spread_entries(&mut self, entries: u64) {
        let old = self.bytes[entries as usize..][..64 * 128].to_vec();
        for (index, entry) in (0..).zip(old.chunks_exact(128)) {
            self.put(entries + index * 256, entry);
            self.put(entries + index * 256 + 128, &[0xff; 128]);
        }
    }
}

/// Changes to the header of a GPT, with the checksums that belong to them.
pub struct Header {
    at: u64,
    changes: Vec<(u64, Vec<u8>)>,
}

impl Header {
    pub fn at(at: u64) -> Self {
        let changes = Vec::new();
        Self { at, changes }
    }

    pub fn u32(mut self, field: u64, value: u32) -> Self {
        self.changes.push((field, value.to_le_bytes().into()));
        self
    }

    pub fn u64(mut self, field: u64, value: u64) -> Self {
        self.changes.push((field, value.to_le_bytes().into()));
        self
    }

    pub fn entries(self, number: u32) -> Self {
        self.u32(80, number)
    }

    pub fn entry_size(self, size: u32) -> Self {
        self.u32(84, size)
    }

    pub fn write(self, edit: &mut Edits) {
        for (field, bytes) in self.changes {
            edit.put(self.at + field, &bytes);
        }
        let number =
            |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let header = edit.bytes[self.at as usize..][..512].to_vec();
        let entries = (number(&header, 72) as u64) * 512;
        let length = number(&header, 80) * number(&header, 84);
        // What does not lie on the disk has no checksum.
        let entries = edit
            .bytes
            .get(entries as usize..)
            .and_then(|rest| rest.get(..length));
        if let Some(entries) = entries {
            let crc = crc32fast::hash(entries);
            edit.put(self.at + 88, &crc.to_le_bytes());
        }
        edit.put(self.at + 16, &[0; 4]);
        let length = number(&edit.bytes, self.at as usize + 12);
        let crc = crc32fast::hash(&edit.bytes[self.at as usize..][..length]);
        edit.put(self.at + 16, &crc.to_le_bytes());
    }
}
