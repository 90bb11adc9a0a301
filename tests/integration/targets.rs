//! Where a disk may be written, where not, and that what is written there is all that is there.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use mkqcow2::error::Side;
use mkqcow2::output::{Caution, Cleanup, DeviceTarget, DiskWriter, Left, Target};
use mkqcow2::units::GuestOffset;
use rustix::fs::{CWD, FileType, Mode, OFlags};

use crate::refusals::Listing;
use crate::support::loops::{Loop, Mount, Swap, make_ext4, until};
use crate::support::{Dir, noise, root};

const MIB: u64 = 1 << 20;

/// A place for a disk of a mebibyte that is read from the files in `read`.
fn resolve(place: &Path, read: &[&Path]) -> mkqcow2::Result<Target<DeviceTarget>> {
    let read: Vec<PathBuf> = read.iter().map(|path| path.to_path_buf()).collect();
    Target::for_disk(&place.into(), Caution::default(), MIB, &read).map(|(target, _)| target)
}

/// Why a place is refused, which is about the target.
#[track_caller]
fn refusal(place: &Path, read: &[&Path]) -> String {
    let error = resolve(place, read).unwrap_err();
    assert_eq!(error.side(), Side::Target);
    error.to_string()
}

/// A directory with an image, as far as anybody looks at it here.
fn dir(test: &str) -> (Dir, PathBuf) {
    let dir = Dir::new(test);
    fs::write(dir.join("image.qcow2"), "an image").unwrap();
    let image = dir.join("image.qcow2");
    (dir, image)
}

fn read_back(device: &Path) -> Vec<u8> {
    // The device's own size, not that of the file behind it.
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut File::open(device).unwrap(), &mut bytes).unwrap();
    bytes
}

/// Holds a device. A program that another test starts at this moment may hold what was let go for a little longer.
fn hold(device: &Path) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
    let mut holder = None;
    until("a device that nobody holds", || {
        holder = rustix::fs::open(device, flags, Mode::empty()).ok();
        holder.is_some()
    });
    holder.unwrap()
}

/// A place that is free, or will be in a moment.
fn becomes_free(place: &Path, read: &[&Path]) {
    until("a place that is free", || resolve(place, read).is_ok());
}

#[test]
fn a_disk_on_a_device_leaves_nothing_of_what_was_there_as_root() {
    let (dir, image) = dir("target-device");
    let file = dir.join("disk.raw");
    fs::write(&file, vec![0xff; 5 << 20]).unwrap();
    let disk = Loop::over(&file);
    let data = noise(1, 300_001);
    let cleanup = Cleanup::default();

    let target = resolve(disk.path(), &[&image]).unwrap();
    assert_eq!(target.room(), Some(5 * MIB));
    let mut writer = DiskWriter::open(target, cleanup.clone(), true).unwrap();
    writer.zero(0..512).unwrap();
    writer.write(&data, GuestOffset(512)).unwrap();
    writer.zero(512 + 300_001..4 * MIB).unwrap();
    let settled = writer.settle(4 * MIB).unwrap();
    settled.publish().unwrap();

    assert_eq!(cleanup.left(), Left::New);
    let mut expected = vec![0; 4 << 20];
    expected[512..512 + data.len()].copy_from_slice(&data);
    expected.resize(5 << 20, 0xff);
    assert!(read_back(disk.path()) == expected, "through its own cache");
    drop(disk);
    assert!(fs::read(&file).unwrap() == expected, "in the file behind it");
}

#[test]
fn zeros_give_back_the_room_of_a_device_that_can_as_root() {
    let (dir, image) = dir("target-punched");
    let file = dir.join("disk.raw");
    fs::write(&file, vec![0xff; 8 << 20]).unwrap();
    let disk = Loop::over(&file);

    let target = resolve(disk.path(), &[&image]).unwrap();
    let mut writer = DiskWriter::open(target, Cleanup::default(), true).unwrap();
    writer.zero(0..8 * MIB).unwrap();
    let _settled = writer.settle(8 * MIB).unwrap();

    let blocks = std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap());
    assert!(blocks * 512 < MIB, "{blocks} blocks");
}

#[test]
fn a_device_is_held_until_the_disk_is_complete_as_root() {
    let (dir, image) = dir("target-held");
    let disk = Loop::over(&dir.sparse("disk.raw", MIB, &[]));
    let is_busy = || {
        rustix::fs::open(
            disk.path(),
            OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .is_err()
    };

    let target = resolve(disk.path(), &[&image]).unwrap();
    assert!(is_busy());
    let writer = DiskWriter::open(target, Cleanup::default(), true).unwrap();
    assert!(is_busy());
    drop(writer);

    until("a device that was let go", || !is_busy());
}

#[test]
fn looking_at_a_device_does_not_write_to_it_as_root() {
    let (dir, image) = dir("target-looked-at");
    let disk = Loop::over(&dir.sparse("disk.raw", MIB, &[(0, &noise(2, 1 << 20))]));
    let before = (disk.sectors_written(), read_back(disk.path()));
    let cleanup = Cleanup::default();

    drop(resolve(disk.path(), &[&image]).unwrap());
    let target = resolve(disk.path(), &[&image]).unwrap();
    drop(DiskWriter::open(target, cleanup.clone(), true));

    assert!((disk.sectors_written(), read_back(disk.path())) == before);
    assert_eq!(cleanup.left(), Left::Old);
}

#[test]
fn a_mounted_device_is_refused_by_each_of_its_names_as_root() {
    for (options, says) in [("rw", "mounted read-write on "), ("ro", "mounted read-only on ")] {
        let (dir, image) = dir(&format!("target-mounted-{options}"));
        let file = dir.sparse("disk.raw", 8 * MIB, &[]);
        make_ext4(&file);
        let disk = Loop::over(&file);
        let other = Loop::over(&file);
        let mount = Mount::new(options, disk.path(), dir.join("mnt"));
        let point = mount.point().display().to_string();

        assert_eq!(refusal(disk.path(), &[&image]), format!("{says}{point}"));
        let through = format!("{says}{point} as {}", disk.name());
        assert_eq!(refusal(other.path(), &[&image]), through);
        assert_eq!(refusal(&file, &[&image]), through);
    }
}

#[test]
fn a_disk_of_which_a_partition_is_mounted_is_refused_but_not_its_neighbour_as_root() {
    let (dir, image) = dir("target-partition");
    let disk = Loop::partitioned(&dir.sparse("disk.raw", 6 * MIB, &[]));
    make_ext4(&disk.partition(2));
    let mount = Mount::new("ro", &disk.partition(2), dir.join("mnt"));
    let point = mount.point().display();

    let says = format!("mounted read-only on {point}");
    assert_eq!(refusal(&disk.partition(2), &[&image]), says);
    assert_eq!(
        refusal(disk.path(), &[&image]),
        format!("{says} as {}p2", disk.name())
    );
    resolve(&disk.partition(1), &[&image]).unwrap();
}

#[test]
fn a_swap_area_is_refused_as_root() {
    let (dir, image) = dir("target-swap");
    let file = dir.sparse("disk.raw", 2 * MIB, &[(0, &noise(3, 2 << 20))]);
    let disk = Loop::over(&file);
    let _swap = Swap::on(disk.path());
    assert_eq!(refusal(disk.path(), &[&image]), "in use as swap");
    assert_eq!(
        refusal(&file, &[&image]),
        format!("in use as swap on {}", disk.name())
    );
}

#[test]
fn a_device_that_somebody_holds_is_refused_by_each_of_its_names_as_root() {
    let (dir, image) = dir("target-busy");
    let file = dir.sparse("disk.raw", 6 * MIB, &[]);
    let disk = Loop::partitioned(&file);
    let other = Loop::over(&file);
    let says = "opened exclusively by a filesystem, a RAID or a program";

    let holder = hold(disk.path());
    assert_eq!(refusal(disk.path(), &[&image]), says);
    assert_eq!(refusal(&disk.partition(1), &[&image]), says);
    assert_eq!(
        refusal(other.path(), &[&image]),
        format!("{says} as {}", disk.name())
    );
    drop(holder);
    let holder = hold(&disk.partition(2));
    assert_eq!(refusal(disk.path(), &[&image]), says);
    becomes_free(&disk.partition(1), &[&image]);
    drop(holder);
    becomes_free(disk.path(), &[&image]);
}

#[test]
fn a_device_that_is_too_small_or_read_only_is_refused_as_root() {
    let (dir, image) = dir("target-unfit");
    let small = Loop::over(&dir.sparse("small.raw", MIB - 512, &[]));
    assert_eq!(
        refusal(small.path(), &[&image]),
        "too small: 1023.50 KiB, the disk has 1.00 MiB, 512 bytes more"
    );
    let read_only = Loop::read_only(&dir.sparse("read-only.raw", MIB, &[]));
    assert_eq!(refusal(read_only.path(), &[&image]), "is a read-only device");
}

#[test]
fn what_the_image_is_or_lies_on_is_refused_as_root() {
    let (dir, _) = dir("target-under-image");
    let file = dir.sparse("disk.raw", 8 * MIB, &[]);
    let disk = Loop::partitioned(&file);
    let other = Loop::over(&file);
    make_ext4(&disk.partition(2));
    let mount = Mount::new("rw", &disk.partition(2), dir.join("mnt"));
    let image = mount.join("image.qcow2");
    fs::write(&image, vec![0; 64 << 10]).unwrap();
    let base = dir.join("image.qcow2");

    let holds = format!(
        "holds {}: writing to it would destroy what is being read",
        image.display()
    );
    for device in [&disk.partition(2), disk.path(), other.path()] {
        assert_eq!(refusal(device, &[&image]), holds, "{}", device.display());
        assert_eq!(refusal(device, &[&base, &image]), holds, "as a backing file");
    }
    resolve(&disk.partition(1), &[&image]).unwrap();
    // The image behind the device.
    let over = Loop::over(&image);
    assert_eq!(
        refusal(over.path(), &[&image]),
        "is the source itself (a loop device over it)"
    );
    assert_eq!(
        refusal(over.path(), &[&base, &image]),
        format!("is {}, which the image needs", image.display())
    );
    drop(over);
}

#[test]
fn a_device_that_is_the_image_or_a_part_of_it_is_refused_as_root() {
    let (dir, _) = dir("target-device-image");
    let file = dir.sparse("disk.raw", 6 * MIB, &[]);
    let disk = Loop::partitioned(&file);
    let other = Loop::over(&file);
    let says = "is the source itself (the same device)";
    let [first, second] = [1, 2].map(|number| disk.partition(number));
    for (target, image) in [
        (disk.path(), disk.path()),
        (first.as_path(), disk.path()),
        (disk.path(), first.as_path()),
        (other.path(), disk.path()),
        (other.path(), first.as_path()),
    ] {
        let names = format!("{} from {}", target.display(), image.display());
        assert_eq!(refusal(target, &[image]), says, "{names}");
    }
    resolve(&first, &[&second]).unwrap();
    assert_eq!(
        refusal(&file, &[disk.path()]),
        "is the source itself (the file behind the loop device)"
    );
}

#[test]
fn a_file_that_is_read_is_refused_by_any_name() {
    let (dir, image) = dir("target-image");
    fs::write(dir.join("base.qcow2"), "a backing file").unwrap();
    let base = dir.join("base.qcow2");
    fs::hard_link(&base, dir.join("hard")).unwrap();
    symlink("base.qcow2", dir.join("soft")).unwrap();
    let before = Listing::of(dir.path());
    for name in ["base.qcow2", "hard", "soft"] {
        let says = refusal(&dir.join(name), &[&base]);
        assert_eq!(says, "is the source itself (the same file)", "{name}");
        let says = refusal(&dir.join(name), &[&image, &base]);
        assert_eq!(
            says,
            format!("is {}, which the image needs", base.display()),
            "{name}"
        );
    }
    assert_eq!(Listing::of(dir.path()), before);
}

#[test]
fn a_file_behind_a_loop_device_is_refused_as_root() {
    let (dir, image) = dir("target-behind-loop");
    let file = dir.sparse("disk.raw", MIB, &[]);
    let disk = Loop::over(&file);
    assert_eq!(
        refusal(&file, &[&image]),
        format!(
            "is behind the loop device {}, which would keep using the old file",
            disk.name()
        )
    );
    drop(disk);
    resolve(&file, &[&image]).unwrap();
}

#[test]
fn what_can_take_no_disk_is_refused() {
    let (dir, image) = dir("target-odd");
    fs::create_dir(dir.join("directory")).unwrap();
    for (name, kind) in [("fifo", FileType::Fifo), ("socket", FileType::Socket)] {
        rustix::fs::mknodat(CWD, dir.join(name), kind, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }
    let before = Listing::of(dir.path());
    let expected = "expected a regular file, a block device or a new name";
    for (target, kind) in [
        (dir.join("directory"), "directory"),
        (dir.join("socket"), "socket"),
        ("/dev/null".into(), "character device"),
    ] {
        assert_eq!(refusal(&target, &[&image]), format!("is a {kind}, {expected}"));
    }
    assert_eq!(refusal(&dir.join("fifo"), &[&image]), "is a pipe");
    assert_eq!(Listing::of(dir.path()), before);
    resolve(Path::new("/dev/shm/mkqcow2-new"), &[&image]).unwrap();
}

#[test]
fn a_name_among_the_devices_that_is_none_is_refused_as_root() {
    root::needed();
    let (_dir, image) = dir("target-no-device");

    assert_eq!(
        refusal(Path::new("/dev/mkqcow2-no-such-disk"), &[&image]),
        "no such device, and a file of this name would be in memory, gone at the next boot"
    );
    assert!(!Path::new("/dev/mkqcow2-no-such-disk").exists());
}

#[test]
fn a_disk_in_a_file_has_holes_its_exact_length_and_no_name_until_it_is_complete() {
    let (dir, image) = dir("target-file");
    let target = dir.join("disk.raw");
    fs::write(&target, "the old disk").unwrap();
    let data = noise(4, 100_000);

    let resolved = resolve(&target, &[&image]).unwrap();
    let mut writer = DiskWriter::open(resolved, Cleanup::default(), true).unwrap();
    writer.zero(0..40 * MIB).unwrap();
    writer.write(&data, GuestOffset(40 * MIB)).unwrap();
    let settled = writer.settle(90 * MIB + 512).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"the old disk");
    settled.publish().unwrap();

    let metadata = target.metadata().unwrap();
    assert_eq!(metadata.len(), 90 * MIB + 512);
    let blocks = std::os::unix::fs::MetadataExt::blocks(&metadata);
    assert!(blocks * 512 <= 128 << 10, "{blocks} blocks");
    let mut found = vec![0; data.len()];
    File::open(&target)
        .unwrap()
        .read_exact_at(&mut found, 40 * MIB)
        .unwrap();
    assert!(found == data);
}
