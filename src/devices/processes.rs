//! Who has a file mapped into memory, and which other run of this program has a device open. Source: proc(5),
//! `/proc/PID/maps`, `/proc/PID/fd`.

use std::io;
use std::path::{Path, PathBuf};

use super::{DeviceNumber, FileId, Kernel, Layers, kernel_files};

/// What the kernel calls a process of this program.
const OWN_NAME: &[u8] = b"mkqcow2";

impl Kernel {
    /// A process, and its name, that has a file mapped so that it can write to it. Only processes are found that we may
    /// look into.
    ///
    /// # Errors
    ///
    /// If the processes cannot be listed.
    pub(crate) fn process_that_maps(&self, file: FileId) -> io::Result<Option<(u32, String)>> {
        for (number, process) in self.processes()? {
            // One may end meanwhile, and those of others may be none of our business.
            let Ok(maps) = std::fs::read(process.join("maps")) else {
                continue;
            };
            if has_writable(&String::from_utf8_lossy(&maps), file) {
                let name = String::from_utf8_lossy(&name(&process)).into_owned();
                return Ok(Some((number, name)));
            }
        }
        Ok(None)
    }

    /// The process of another run of this program that has one of the devices open. Those of other users are found by
    /// root only.
    pub(super) fn other_run(&self, layers: &Layers) -> Option<u32> {
        let is_wanted = |number: DeviceNumber| layers.get(number).is_some();
        let mut others = self.processes().unwrap_or_default().into_iter();
        let other = others.find(|(number, process)| {
            *number != std::process::id()
                && name(process) == OWN_NAME
                && kernel_files::entries(&process.join("fd"))
                    .unwrap_or_default()
                    .iter()
                    .filter_map(|open| DeviceNumber::of_device(open))
                    .any(is_wanted)
        });
        other.map(|(number, _)| number)
    }

    fn processes(&self) -> io::Result<Vec<(u32, PathBuf)>> {
        let entries = kernel_files::entries_expected(&self.proc)?;
        let numbered = |path: PathBuf| {
            let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            Some((number?, path))
        };
        Ok(entries.into_iter().filter_map(numbered).collect())
    }
}

/// The name of a process; empty if it ended meanwhile.
fn name(process: &Path) -> Vec<u8> {
    let name = std::fs::read(process.join("comm")).unwrap_or_default();
    name.trim_ascii_end().to_vec()
}

fn has_writable(maps: &str, file: FileId) -> bool {
    maps.lines().any(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (mode, mut words) = (words.next().unwrap_or_default(), words.skip(1));
        let is_shared = mode.as_bytes().get(1) == Some(&b'w') && mode.ends_with('s');
        is_shared && words.next().zip(words.next()).and_then(parse) == Some(file)
    })
}

fn parse((device, inode): (&str, &str)) -> Option<FileId> {
    let (major, minor) = device.split_once(':')?;
    let [major, minor] = [major, minor].map(|number| u32::from_str_radix(number, 16).ok());
    Some(FileId {
        device: rustix::fs::makedev(major?, minor?),
        inode: inode.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mapping_that_is_shared_and_writable_counts() {
        let maps = "\
7f0000000000-7f0000001000 rw-s 00000000 00:1a 17 /dev/shm/a file (deleted)
7f0000001000-7f0000002000 r--s 00000000 00:1a 18 /dev/shm/read
7f0000002000-7f0000003000 rw-p 00000000 00:1a 19 /dev/shm/private
7f0000003000-7f0000004000 rw-p 00000000 00:00 0
garbage
7f0000004000-7f0000005000 -w-s 00000000 fe:01 20 /dev/shm/other
";
        let id = |major, minor, inode| FileId {
            device: rustix::fs::makedev(major, minor),
            inode,
        };
        assert!(has_writable(maps, id(0, 0x1a, 17)));
        assert!(has_writable(maps, id(0xfe, 1, 20)));
        for other in [id(0, 0x1a, 18), id(0, 0x1a, 19), id(0, 0x1b, 17), id(0, 0, 0)] {
            assert!(!has_writable(maps, other), "{other:?}");
        }
    }
}
