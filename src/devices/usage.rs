//! Who uses a file or device: whether anybody might write to it while it is read, or read it while it is written.

use std::io;
use std::path::{Path, PathBuf};

use super::mounts::Mount;
use super::{DeviceNumber, FileId, Kernel, Layer, Layers, Subject};
use crate::error::InUse;

/// All who could use the layers of a file or device, as far as the kernel could be asked.
#[derive(Debug)]
pub struct Users {
    subject: Subject,
    layers: Layers,
    mounts: Vec<Mount>,
    swaps: Vec<PathBuf>,
    guests: Vec<FileId>,
    /// Why there may be more.
    unknown: Option<String>,
}

impl Kernel {
    /// Who uses a file or device: filesystems mounted from any of its [layers](Self::layers), swap, and virtual
    /// machines. If that cannot be found out, it counts as [in use](InUse::Unknown).
    pub fn users(&self, subject: Subject) -> Users {
        let mut users = Users {
            subject,
            layers: Layers::default(),
            mounts: Vec::new(),
            swaps: Vec::new(),
            guests: Vec::new(),
            unknown: None,
        };
        let mut failures = vec![self.add_layers(subject, &mut users.layers).err()];
        let mut keep = |failure: Option<io::Error>| failures.push(failure);
        keep(self.guests().map(|guests| users.guests = guests).err());
        keep(self.mounts().map(|mounts| users.mounts = mounts).err());
        keep(self.swaps().map(|swaps| users.swaps = swaps).err());
        users.unknown = failures
            .into_iter()
            .flatten()
            .next()
            .map(|error| error.to_string());
        users
    }
}

impl Users {
    /// Somebody who might write to it.
    pub fn writer(&self) -> Option<InUse> {
        self.writable_mount()
            .or_else(|| self.swap())
            .or_else(|| self.guest())
            .or_else(|| self.volume())
            .or_else(|| self.unknown())
    }

    /// Somebody who would notice if it were overwritten.
    pub fn anybody(&self) -> Option<InUse> {
        self.writable_mount()
            .or_else(|| self.any_mount())
            .or_else(|| self.swap())
            .or_else(|| self.guest())
            .or_else(|| self.holder())
            .or_else(|| self.unknown())
    }

    /// Whoever could not be found.
    pub fn unknown(&self) -> Option<InUse> {
        let why = self.unknown.clone()?;
        Some(InUse::Unknown { why })
    }

    /// What was asked about.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// All devices that show its bytes.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Whether a filesystem is mounted from the device, as far as this namespace shows.
    pub fn is_mounted(&self, number: DeviceNumber) -> bool {
        self.mounts_of(number).next().is_some()
    }

    /// The name of a layer that is not what was asked about.
    pub fn other_than_subject(&self, layer: &Layer) -> Option<String> {
        (self.subject != Subject::Device(layer.number)).then(|| layer.name.clone())
    }

    /// The mounts of filesystems on its layers that can be written to.
    pub(super) fn writable_mounts(&self) -> Vec<&Mount> {
        let mut found: Vec<&Mount> = Vec::new();
        for mount in self
            .layers
            .all
            .iter()
            .flat_map(|layer| self.mounts_of(layer.number))
        {
            if mount.is_writable && !found.iter().any(|other| other.id == mount.id) {
                found.push(mount);
            }
        }
        found
    }

    fn mounts_of(&self, number: DeviceNumber) -> impl Iterator<Item = &Mount> {
        // A filesystem with several devices is mounted by the name of one of them.
        let peers = self.layers.get(number).map_or(&[][..], |layer| &layer.peers);
        let is_of = move |device: DeviceNumber| device == number || peers.contains(&device);
        self.mounts
            .iter()
            .filter(move |mount| mount.devices().into_iter().any(is_of))
    }

    fn writable_mount(&self) -> Option<InUse> {
        self.layers.all.iter().find_map(|layer| {
            let mount = self.mounts_of(layer.number).find(|mount| mount.is_writable)?;
            Some(self.mounted(mount, layer))
        })
    }

    fn any_mount(&self) -> Option<InUse> {
        self.layers.all.iter().find_map(|layer| {
            let mount = self.mounts_of(layer.number).next()?;
            Some(self.mounted(mount, layer))
        })
    }

    fn mounted(&self, mount: &Mount, layer: &Layer) -> InUse {
        InUse::Mounted {
            on: mount.point.clone(),
            is_writable: mount.is_writable,
            device: self.other_than_subject(layer),
        }
    }

    fn swap(&self) -> Option<InUse> {
        let is_swap = |subject: Subject| {
            let swaps = self.swaps.iter().filter_map(|path| path.metadata().ok());
            swaps
                .filter_map(|metadata| Subject::of(&metadata))
                .any(|swap| swap == subject)
        };
        if is_swap(self.subject) {
            return Some(InUse::Swap { device: None });
        }
        let layer = self
            .layers
            .all
            .iter()
            .find(|layer| is_swap(Subject::Device(layer.number)))?;
        Some(InUse::Swap {
            device: self.other_than_subject(layer),
        })
    }

    /// A virtual machine that might write to it.
    pub fn guest(&self) -> Option<InUse> {
        if let Subject::File(file) = self.subject
            && self.guests.iter().any(|guest| self.is_same(*guest, file))
        {
            return Some(InUse::Guest { device: None });
        }
        let is_locked = |layer: &&Layer| {
            let node = Path::new("/dev/block").join(layer.number.to_string());
            // Who locks a device locks its node.
            let id = node.metadata().map(|metadata| FileId::of(&metadata));
            id.is_ok_and(|id| self.guests.contains(&id))
        };
        let layer = self.layers.all.iter().find(is_locked)?;
        Some(InUse::Guest {
            device: self.other_than_subject(layer),
        })
    }

    /// Whether a lock is for that file. It is told by the number of the filesystem, for which btrfs shows others in
    /// each subvolume.
    fn is_same(&self, locked: FileId, file: FileId) -> bool {
        let is_mounted = |id: FileId| {
            let number = DeviceNumber::from_raw(id.device);
            number.major == 0 && self.mounts.iter().any(|mount| mount.device == number)
        };
        let is_subvolume = DeviceNumber::from_raw(file.device).major == 0 && !is_mounted(file);
        locked == file || (locked.inode == file.inode && is_subvolume && is_mounted(locked))
    }

    /// A volume that is neither read-only nor only mounted read-only can be written to at any moment.
    fn volume(&self) -> Option<InUse> {
        self.volumes().find_map(|(layer, held)| {
            let is_quiet = layer.is_read_only || !layer.children.is_empty() || self.is_mounted(layer.number);
            (!is_quiet).then_some(held)
        })
    }

    /// A volume shows what is written under it, whether or not anybody uses the volume.
    fn holder(&self) -> Option<InUse> {
        self.volumes().next().map(|(_, held)| held)
    }

    fn volumes(&self) -> impl Iterator<Item = (&Layer, InUse)> {
        let first = self.layers.all.first();
        self.layers.all.iter().filter_map(move |layer| {
            let made_of = layer.made_of.as_ref()?;
            let held = InUse::Held {
                by: layer.name.clone(),
                device: (*made_of != first?.name).then(|| made_of.clone()),
            };
            Some((layer, held))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A disk sda with the partitions sda1 and sda2; the volume dm-0 stands on sda2.
    struct FakeKernel(PathBuf);

    impl FakeKernel {
        fn new(test: &str, mountinfo: &str) -> Self {
            let root = std::env::temp_dir().join(format!("mkqcow2-{test}-{}", std::process::id()));
            let file = |path: &str, text: &str| {
                let path = root.join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            };
            file("proc/self/mountinfo", mountinfo);
            file("sys/devices/sda/dev", "8:0\n");
            file("sys/devices/sda/sda1/dev", "8:1\n");
            file("sys/devices/sda/sda1/partition", "1\n");
            file("sys/devices/sda/sda2/dev", "8:2\n");
            file("sys/devices/sda/sda2/partition", "2\n");
            file("sys/devices/sda/sda2/holders/.keep", "");
            file("sys/devices/sda/sda2/stat", "1 2 3 4 5 6 777 8 9\n");
            file("sys/devices/dm-0/dev", "254:0\n");
            file("sys/devices/dm-0/ro", "0\n");
            file("sys/devices/dm-0/dm/name", "vg-root\n");
            file("sys/devices/dm-0/slaves/.keep", "");
            file("sys/dev/block/.keep", "");
            file("sys/block/.keep", "");
            file("proc/version", "Linux");
            let link = |to: &str, from: &str| symlink(root.join(to), root.join("sys").join(from)).unwrap();
            link("sys/devices/dm-0", "devices/sda/sda2/holders/dm-0");
            link("sys/devices/sda/sda2", "devices/dm-0/slaves/sda2");
            link("sys/devices/sda", "dev/block/8:0");
            link("sys/devices/sda/sda1", "dev/block/8:1");
            link("sys/devices/sda/sda2", "dev/block/8:2");
            link("sys/devices/dm-0", "dev/block/254:0");
            Self(root)
        }

        fn kernel(&self) -> Kernel {
            Kernel {
                proc: self.0.join("proc"),
                sys: self.0.join("sys"),
            }
        }

        fn users(&self, major: u32, minor: u32) -> Users {
            let subject = Subject::Device(DeviceNumber { major, minor });
            self.kernel().users(subject)
        }

        fn writer(&self, major: u32, minor: u32) -> Option<String> {
            self.users(major, minor).writer().map(|writer| writer.to_string())
        }

        fn anybody(&self, major: u32, minor: u32) -> Option<String> {
            self.users(major, minor).anybody().map(|user| user.to_string())
        }
    }

    impl Drop for FakeKernel {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_volume_mounted_read_write_keeps_its_disk_and_partition_in_use() {
        let fake = FakeKernel::new("volume-rw", "1 0 254:0 / /srv ro - ext4 /dev/mapper/vg-root rw\n");
        let says = "mounted read-write on /srv as dm-0 (vg-root)";
        assert_eq!(fake.writer(8, 0).as_deref(), Some(says));
        assert_eq!(fake.writer(8, 2).as_deref(), Some(says));
        assert_eq!(fake.writer(254, 0).as_deref(), Some("mounted read-write on /srv"));
        assert_eq!(fake.writer(8, 1), None);
    }

    #[test]
    fn a_volume_mounted_read_only_does_not() {
        let fake = FakeKernel::new("volume-ro", "1 0 254:0 / /srv ro - ext4 /dev/mapper/vg-root ro\n");
        assert_eq!(fake.writer(8, 0), None);
        let number = DeviceNumber { major: 8, minor: 2 };
        assert!(
            fake.kernel()
                .users(Subject::Device(number))
                .is_mounted(DeviceNumber { major: 254, minor: 0 })
        );
    }

    #[test]
    fn a_volume_that_is_not_mounted_may_be_written_to_by_anybody() {
        let fake = FakeKernel::new("volume-idle", "");
        assert_eq!(
            fake.writer(8, 2).as_deref(),
            Some("in use by the device dm-0 (vg-root)")
        );
        assert_eq!(
            fake.writer(8, 0).as_deref(),
            Some("in use by the device dm-0 (vg-root) as sda2")
        );
        std::fs::write(fake.0.join("sys/devices/dm-0/ro"), "1\n").unwrap();
        assert_eq!(fake.writer(8, 2), None, "the volume is read-only");
    }

    #[test]
    fn whoever_uses_a_device_at_all_keeps_it_from_being_overwritten() {
        let fake = FakeKernel::new(
            "anybody-ro",
            "1 0 254:0 / /srv ro - ext4 /dev/mapper/vg-root ro\n",
        );
        let says = "mounted read-only on /srv as dm-0 (vg-root)";
        assert_eq!(fake.anybody(8, 0).as_deref(), Some(says));
        assert_eq!(fake.anybody(8, 2).as_deref(), Some(says));
        assert_eq!(fake.anybody(8, 1), None);
        let fake = FakeKernel::new("anybody-idle", "");
        std::fs::write(fake.0.join("sys/devices/dm-0/ro"), "1\n").unwrap();
        assert_eq!(
            fake.anybody(8, 2).as_deref(),
            Some("in use by the device dm-0 (vg-root)")
        );
        assert_eq!(
            fake.anybody(254, 0),
            None,
            "what a volume is made of is no user of it"
        );
    }

    #[test]
    fn a_volume_stands_on_its_partition_and_the_disk_of_that() {
        let fake = FakeKernel::new("below", "");
        let foundation = fake
            .kernel()
            .foundation_of_device(DeviceNumber { major: 254, minor: 0 })
            .unwrap();
        for (minor, is_below) in [(0, true), (1, false), (2, true)] {
            assert_eq!(
                foundation.includes(DeviceNumber { major: 8, minor }),
                is_below,
                "8:{minor}"
            );
        }
    }

    #[test]
    fn the_sectors_written_are_the_seventh_field() {
        let fake = FakeKernel::new("stat", "");
        let written = fake.kernel().sectors_written(DeviceNumber { major: 8, minor: 2 });
        assert_eq!(written.unwrap(), Some(777));
        let number = DeviceNumber { major: 8, minor: 1 };
        assert_eq!(fake.kernel().sectors_written(number).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_found_out_counts_as_in_use() {
        let unreadable = |path: PathBuf| {
            let _ = std::fs::remove_dir_all(&path);
            let _ = std::fs::remove_file(&path);
            // A link to itself.
            symlink(&path, &path).unwrap();
        };
        for (number, path) in [
            "proc/self/mountinfo",
            "proc/swaps",
            "proc/locks",
            "sys/block",
            "sys/dev/block",
            "sys/fs/btrfs",
            "sys/devices/sda/sda2/partition",
            "sys/devices/sda/sda2/ro",
            "sys/devices/sda/sda2/holders",
            "sys/devices/dm-0/ro",
            "sys/devices/dm-0/dm/name",
        ]
        .into_iter()
        .enumerate()
        {
            let fake = FakeKernel::new(&format!("unknown-{number}"), "");
            std::fs::create_dir_all(fake.0.join("sys/fs")).unwrap();
            // Nothing else keeps it in use.
            std::fs::write(fake.0.join("sys/devices/dm-0/ro"), "1\n").unwrap();
            assert_eq!(fake.writer(8, 2), None, "{path}");
            unreadable(fake.0.join(path));
            let said = fake.writer(8, 2).unwrap_or_default();
            assert!(said.starts_with("perhaps in use: cannot read "), "{path}: {said}");
            assert!(fake.users(8, 2).anybody().is_some(), "{path}");
        }
    }

    #[test]
    fn what_is_not_there_at_all_is_no_user() {
        let fake = FakeKernel::new("absent", "");
        assert!(!fake.0.join("proc/swaps").exists() && !fake.0.join("sys/fs").exists());
        assert_eq!(fake.writer(8, 1), None);
        let absent = [
            ("proc/version", "proc/swaps"),
            ("sys/block", "sys/block"),
            ("sys/dev", "sys/dev/block"),
        ];
        for (gone, missing) in absent {
            let fake = FakeKernel::new("absent-all", "");
            let path = fake.0.join(gone);
            if path.is_dir() {
                std::fs::remove_dir_all(path).unwrap();
            } else {
                std::fs::remove_file(path).unwrap();
            }
            assert!(!fake.0.join(missing).exists());
            assert!(fake.writer(8, 1).is_some(), "{gone}");
        }
    }
}
