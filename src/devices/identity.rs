//! What the kernel tells of a disk and of the host, for people.

use std::path::Path;

use super::sysfs::disk_of;
use super::{DeviceNumber, Kernel, kernel_files};

/// Which disk it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its model.
    pub model: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
}

impl Kernel {
    /// The model and the serial number of a disk, or of the disk that a partition is part of, as far as the kernel tells
    /// them.
    pub fn identity(&self, number: DeviceNumber) -> Identity {
        let own = self.directory(number);
        let disk = disk_of(&own).ok().flatten();
        let directory = disk.map_or(own, |disk| self.directory(disk));
        let text = |name: &str| text(&directory.join(name));
        // NVMe and MMC; virtio; SCSI and SATA.
        let serial = text("device/serial").or_else(|| text("serial"));
        Identity {
            model: text("device/model"),
            serial: serial.or_else(|| unit_serial(&directory.join("device/vpd_pg80"))),
        }
    }

    /// The name of the host, if the kernel tells it.
    pub fn host_name(&self) -> Option<String> {
        text(&self.proc.join("sys/kernel/hostname"))
    }
}

fn text(path: &Path) -> Option<String> {
    trimmed(&kernel_files::read(path).ok()??)
}

/// The serial number in a page of vital product data. Source: SPC-4, "Unit Serial Number VPD page": byte 2 is its
/// length, and it begins at byte 4.
fn unit_serial(path: &Path) -> Option<String> {
    let page = kernel_files::read(path).ok()??;
    let [_, _, high, low, serial @ ..] = page.as_slice() else {
        return None;
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    trimmed(serial.get(..length)?)
}

/// Without the padding that disks have; none if that is all.
fn trimmed(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    /// The disk sda with the partition sda1.
    struct Fake(PathBuf);

    impl Fake {
        fn new(test: &str, files: &[(&str, &[u8])]) -> Self {
            let root = std::env::temp_dir().join(format!("mkqcow2-identity-{test}-{}", std::process::id()));
            let fixed: [(&str, &[u8]); 4] = [
                ("sys/devices/sda/dev", b"8:0\n"),
                ("sys/devices/sda/sda1/dev", b"8:1\n"),
                ("sys/devices/sda/sda1/partition", b"1\n"),
                ("sys/dev/block/.keep", b""),
            ];
            for (path, text) in fixed.iter().chain(files) {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            for (from, to) in [("8:0", "sda"), ("8:1", "sda/sda1")] {
                symlink(
                    root.join("sys/devices").join(to),
                    root.join("sys/dev/block").join(from),
                )
                .unwrap();
            }
            Self(root)
        }

        fn kernel(&self) -> Kernel {
            Kernel {
                proc: self.0.join("proc"),
                sys: self.0.join("sys"),
            }
        }

        /// What is told of the disk, which is told of the partition too.
        fn identity(&self) -> (Option<String>, Option<String>) {
            let [disk, partition] =
                [0, 1].map(|minor| self.kernel().identity(DeviceNumber { major: 8, minor }));
            assert_eq!(disk, partition);
            (disk.model, disk.serial)
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn told(model: Option<&str>, serial: Option<&str>) -> (Option<String>, Option<String>) {
        (model.map(str::to_owned), serial.map(str::to_owned))
    }

    #[test]
    fn a_disk_and_its_partitions_have_its_model_and_serial_number() {
        let fake = Fake::new(
            "nvme",
            &[
                ("sys/devices/sda/device/model", b"Foo 2000     \n"),
                ("sys/devices/sda/device/serial", b"  S123\n"),
                ("sys/devices/sda/serial", b"other\n"),
                ("proc/sys/kernel/hostname", b"alpha\n"),
            ],
        );
        assert_eq!(fake.identity(), told(Some("Foo 2000"), Some("S123")));
        assert_eq!(fake.kernel().host_name().as_deref(), Some("alpha"));
    }

    #[test]
    fn the_serial_number_is_where_virtio_and_scsi_have_it() {
        let fake = Fake::new("virtio", &[("sys/devices/sda/serial", b"overlay")]);
        assert_eq!(fake.identity(), told(None, Some("overlay")));
        let page = b"\x00\x80\x00\x06 WD-7 \0\0";
        let fake = Fake::new("scsi", &[("sys/devices/sda/device/vpd_pg80", page)]);
        assert_eq!(fake.identity(), told(None, Some("WD-7")));
    }

    #[test]
    fn what_is_not_told_or_makes_no_sense_is_none() {
        let fake = Fake::new(
            "nothing",
            &[
                ("sys/devices/sda/device/model", b"  \n"),
                ("sys/devices/sda/device/vpd_pg80", b"\x00\x80\x00\x07WD-7"),
            ],
        );
        assert_eq!(fake.identity(), told(None, None));
        assert_eq!(fake.kernel().host_name(), None);
        assert_eq!(
            fake.kernel().identity(DeviceNumber { major: 9, minor: 9 }),
            Identity::default()
        );
    }
}
