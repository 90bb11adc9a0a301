//! Who has a file open for a virtual machine: QEMU says so with locks. Source: proc(5), `/proc/locks`; QEMU,
//! `block/file-posix.c`.

use super::FileId;

/// Where QEMU locks a byte for each permission that it has.
const PERMISSIONS: u64 = 100;

/// The byte for the permission to write.
const WRITE: u64 = PERMISSIONS + 1;

/// The files that a QEMU may write to.
pub(super) fn parse_locks(text: &str) -> Vec<FileId> {
    text.lines().filter_map(parse_lock).collect()
}

fn parse_lock(line: &str) -> Option<FileId> {
    let mut words = line.split_whitespace().skip(1);
    if words.next()? != "OFDLCK" {
        return None;
    }
    let mut words = words.skip(3);
    let (file, start, end) = (words.next()?, words.next()?, words.next()?);
    let is_it = start.parse::<u64>().is_ok_and(|start| start <= WRITE)
        && end
            .parse::<u64>()
            .is_ok_and(|end| (WRITE..2 * PERMISSIONS).contains(&end));
    if !is_it {
        return None;
    }
    let mut parts = file.split(':');
    let (major, minor) = (parts.next()?, parts.next()?);
    let [major, minor] = [major, minor].map(|number| u32::from_str_radix(number, 16).ok());
    Some(FileId {
        device: rustix::fs::makedev(major?, minor?),
        inode: parts.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_permission_to_write_is_told_from_others() {
        let locks = "\
1: OFDLCK ADVISORY  READ -1 fe:00:7 201 203
2: OFDLCK ADVISORY  READ -1 fe:00:8 103 103
3: OFDLCK ADVISORY  READ -1 fe:01:9 100 101
4: OFDLCK ADVISORY  READ -1 00:1a:10 101 101
5: OFDLCK ADVISORY  WRITE -1 fe:00:11 0 EOF
6: POSIX  ADVISORY  WRITE 1234 fe:00:12 100 101
7: FLOCK  ADVISORY  WRITE 99 fe:00:13 0 EOF
7: -> OFDLCK ADVISORY  READ -1 fe:00:14 100 101
8: OFDLCK
";
        let id = |major, minor, inode| FileId {
            device: rustix::fs::makedev(major, minor),
            inode,
        };
        assert_eq!(parse_locks(locks), [id(0xfe, 1, 9), id(0, 0x1a, 10)]);
    }
}
