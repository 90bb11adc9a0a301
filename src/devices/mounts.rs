//! `/proc/self/mountinfo` and `/proc/swaps`. Source: proc(5).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::DeviceNumber;

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number, as statx(2) has it.
    pub id: u64,
    /// The device number of files on it.
    pub device: DeviceNumber,
    /// Where it is mounted.
    pub point: PathBuf,
    /// The type of the filesystem.
    pub kind: OsString,
    /// What the filesystem says it is made of: often the path of a device.
    pub source: PathBuf,
    /// Whether the filesystem may be written to, through this or any other mount of it.
    pub is_writable: bool,
}

impl Mount {
    /// The block devices it is known to be made of.
    pub fn devices(&self) -> Vec<DeviceNumber> {
        // A major number of 0 is no device (btrfs, overlay, NFS): then its source may name one.
        let own = (self.device.major != 0).then_some(self.device);
        own.into_iter()
            .chain(DeviceNumber::of_device(&self.source))
            .collect()
    }
}

/// Parses `/proc/self/mountinfo`; `None` if a line is not as proc(5) says.
pub(super) fn parse_mounts(text: &[u8]) -> Option<Vec<Mount>> {
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter(|line| !line.is_empty()).map(parse_mount).collect()
}

fn parse_mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let mut device = fields.nth(1)?.split(|byte| *byte == b':');
    let device = DeviceNumber {
        major: number(device.next()?)?,
        minor: number(device.next()?)?,
    };
    let point = path(fields.nth(1)?);
    // Optional fields end with a lone hyphen; behind it are the type, the source and the options of the
    // filesystem, which, unlike those of the mount, say whether it can be written to through any mount.
    let mut behind = fields.skip_while(|field| *field != b"-").skip(1);
    let kind = OsString::from_vec(behind.next()?.to_vec());
    let source = path(behind.next()?);
    let is_writable = behind
        .next()?
        .split(|byte| *byte == b',')
        .any(|option| option == b"rw");
    Some(Mount {
        id,
        device,
        point,
        kind,
        source,
        is_writable,
    })
}

/// Parses `/proc/swaps`.
pub(super) fn parse_swaps(text: &[u8]) -> Vec<PathBuf> {
    let lines = text
        .split(|byte| *byte == b'\n')
        .skip(1)
        .filter(|line| !line.is_empty());
    lines
        .filter_map(|line| line.split(u8::is_ascii_whitespace).next())
        .map(path)
        .collect()
}

fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// A path in which the kernel wrote space, tab, newline and backslash as a backslash and three octal digits.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let escaped = behind
            .first_chunk::<3>()
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = behind
            .get(if escaped.is_some() { 3 } else { 0 }..)
            .unwrap_or_default();
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read_with_its_optional_fields_and_escapes() {
        let text =
            b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root\\134x ro,errors=continue\n\
            40 35 0:42 / /srv ro shared:7 - btrfs /dev/sdb rw,space_cache\n";
        let mounts = parse_mounts(text).unwrap();
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].id, 36);
        assert_eq!(mounts[0].device, DeviceNumber { major: 98, minor: 0 });
        assert_eq!(mounts[0].point, PathBuf::from("/mnt 2"));
        assert_eq!(mounts[0].kind, "ext3");
        assert_eq!(mounts[0].source, PathBuf::from("/dev/root\\x"));
        assert!(!mounts[0].is_writable, "the filesystem is read-only");
        assert!(
            mounts[1].is_writable,
            "a read-only mount of a filesystem that is writable"
        );
    }

    #[test]
    fn a_line_that_is_no_mount_is_not_passed_over() {
        let good = b"36 35 98:0 / /mnt rw - ext3 /dev/sda ro\n";
        assert!(parse_mounts(&good.repeat(2)).is_some_and(|mounts| mounts.len() == 2));
        for bad in [
            &b"garbage\n"[..],
            b"36 35 98:0 / /mnt rw - ext3\n",
            b"36 35 98 / /mnt rw - a b rw\n",
        ] {
            assert_eq!(parse_mounts(&[good, bad].concat()), None);
        }
    }

    #[test]
    fn swap_files_and_devices_are_read() {
        let text = b"Filename\tType\t\tSize\nfile\\040name   file\t\t1\n/dev/sda2 partition 2\n";
        assert_eq!(
            parse_swaps(text),
            [PathBuf::from("file name"), PathBuf::from("/dev/sda2")]
        );
        assert!(parse_swaps(b"Filename\tType\n").is_empty());
    }
}
