//! A reader of FAT32 by its active FAT, which dosfstools and mtools do not look for.

use std::fs;
use std::ops::Range;
use std::path::Path;

pub struct Fat32<'a> {
    bytes: &'a [u8],
    pub active: usize,
    reserved: usize,
    fat_size: usize,
    data: usize,
    cluster: usize,
}

impl<'a> Fat32<'a> {
    pub fn of(bytes: &'a [u8]) -> Self {
        let half = |at: usize| usize::from(bytes[at]) + 256 * usize::from(bytes[at + 1]);
        let sector = half(11);
        let (reserved, fat_size) = (half(14) * sector, half(36) * sector);
        let flags = bytes[40];
        Self {
            bytes,
            active: if flags >= 128 { usize::from(flags % 16) } else { 0 },
            reserved,
            fat_size,
            data: reserved + usize::from(bytes[16]) * fat_size,
            cluster: usize::from(bytes[13]) * sector,
        }
    }

    /// The bytes of a FAT.
    pub fn fat(&self, number: usize) -> Range<usize> {
        let start = self.reserved + number * self.fat_size;
        start..start + self.fat_size
    }

    /// Copies all files to a directory.
    pub fn copy_out(&self, to: &Path) {
        self.directory(2, to);
    }

    fn chain(&self, mut cluster: usize) -> Vec<u8> {
        let mut content = Vec::new();
        while (2..0x0fff_fff8).contains(&cluster) {
            let start = self.data + (cluster - 2) * self.cluster;
            content.extend(&self.bytes[start..start + self.cluster]);
            let entry = self.fat(self.active).start + 4 * cluster;
            let entry: [u8; 4] = self.bytes[entry..entry + 4].try_into().unwrap();
            cluster = (u32::from_le_bytes(entry) & 0x0fff_ffff) as usize;
        }
        content
    }

    fn directory(&self, cluster: usize, to: &Path) {
        fs::create_dir_all(to).unwrap();
        let mut long = String::new();
        for entry in self.chain(cluster).chunks(32) {
            match (entry[0], entry[11]) {
                (0, _) => return,
                (0xe5, _) => {}
                (order, 0x0f) => {
                    let units = entry[1..11]
                        .chunks(2)
                        .chain(entry[14..26].chunks(2))
                        .chain(entry[28..].chunks(2));
                    let units: Vec<_> = units.map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
                    let piece = String::from_utf16(&units).unwrap();
                    let piece = piece.split('\0').next().unwrap();
                    long = if order & 0x40 != 0 {
                        piece.to_owned()
                    } else {
                        format!("{piece}{long}")
                    };
                    continue;
                }
                (_, attributes) if attributes & 8 != 0 => {}
                (b'.', _) => {}
                (_, attributes) => {
                    let word = |at: usize| usize::from(entry[at]) + 256 * usize::from(entry[at + 1]);
                    let first = word(26) + 65536 * word(20);
                    let name = if long.is_empty() {
                        short(entry)
                    } else {
                        long.clone()
                    };
                    let path = to.join(name);
                    if attributes & 0x10 != 0 {
                        self.directory(first, &path);
                    } else {
                        let mut content = self.chain(first);
                        content.truncate(word(28) + 65536 * word(30));
                        fs::write(path, content).unwrap();
                    }
                }
            }
            long.clear();
        }
    }
}

/// The name of eight and three letters; lower-case ones as Windows NT marks them.
fn short(entry: &[u8]) -> String {
    let part = |range: Range<usize>, is_lower: bool| {
        let part = String::from_utf8(entry[range].to_vec()).unwrap();
        let part = part.trim_end();
        if is_lower {
            part.to_lowercase()
        } else {
            part.to_owned()
        }
    };
    let (name, extension) = (part(0..8, entry[12] & 8 != 0), part(8..11, entry[12] & 16 != 0));
    if extension.is_empty() {
        name
    } else {
        format!("{name}.{extension}")
    }
}
