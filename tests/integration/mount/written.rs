//! Copy on write: what is written is read again, the image stays as it is, and nothing is left.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, PermissionsExt};

use super::served::Served;
use crate::support::loops::Mount;
use crate::support::{Dice, Dir, names_in, noise};

const SIZE: usize = (4 << 20) + 512;

fn dir(name: &str) -> (Dir, Vec<u8>) {
    let dir = Dir::new(name);
    let content = noise(4, SIZE);
    fs::write(dir.join("disk.raw"), &content).unwrap();
    dir.image("-c zstd");
    (dir, content)
}

#[test]
fn what_is_written_is_read_again_and_forgotten_at_the_end_as_root() {
    let (dir, mut content) = dir("mount-written");
    let image = fs::read(dir.join("disk.qcow2")).unwrap();
    let served = Served::new(&dir, "--copy-on-write", "disk.qcow2");
    let path = served.join("disk.raw");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let mut dice = Dice::new(5);
    for round in 0..300 {
        let at = dice.below(SIZE as u64) as usize;
        let length = (dice.below(30_000) as usize).min(SIZE - at);
        let bytes = noise(round, length);
        file.write_all_at(&bytes, at as u64).unwrap();
        content[at..at + length].copy_from_slice(&bytes);
        if round % 50 == 0 {
            file.sync_all().unwrap();
            // From now on the kernel must ask again.
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        }
    }
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    assert!(fs::read(&path).unwrap() == content);
    drop(file);
    served.unmount();

    assert!(fs::read(dir.join("disk.qcow2")).unwrap() == image);
    let again = Served::new(&dir, "--copy-on-write", "disk.qcow2");
    assert!(fs::read(again.join("disk.raw")).unwrap() == noise(4, SIZE));
}

#[test]
fn a_disk_stays_as_large_as_it_is_as_root() {
    let (dir, content) = dir("mount-size");
    let served = Served::new(&dir, "--copy-on-write", "disk.qcow2");
    let path = served.join("disk.raw");
    let file = File::options().write(true).open(&path).unwrap();

    assert_eq!(
        file.write_at(b"behind", SIZE as u64).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    assert_eq!(file.set_len(100).unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(
        file.set_len(2 * SIZE as u64).unwrap_err().kind(),
        ErrorKind::PermissionDenied
    );
    file.set_len(SIZE as u64).unwrap();
    assert!(fs::remove_file(&path).is_err());
    assert!(fs::write(served.join("new"), "").is_err());
    assert!(fs::read(&path).unwrap() == content);
}

#[test]
fn changes_lie_in_the_directory_for_temporary_files_and_have_no_name_as_root() {
    let (dir, content) = dir("mount-tmpdir");
    let small = Mount::tmpfs(1 << 20, dir.join("small"));
    let served = Served::expected(&dir, "disk.qcow2");
    let line = format!(
        "mount --copy-on-write {} {}",
        dir.join("disk.qcow2").display(),
        served.point().display()
    );
    let mut command = dir.command(line.split(' '));
    command.env("TMPDIR", small.point());
    crate::support::Run::of(&mut command).exits(0).in_silence();
    assert!(names_in(small.point()).is_empty());

    // More than there is room for: an error, and what was not written is as it was.
    let file = File::options()
        .read(true)
        .write(true)
        .open(served.join("disk.raw"))
        .unwrap();
    let full = file.write_all_at(&vec![7; 3 << 20], 0).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let mut behind = vec![0; SIZE - (3 << 20)];
    file.read_exact_at(&mut behind, 3 << 20).unwrap();
    assert!(behind == content[3 << 20..]);
    drop(file);
    served.unmount();
    drop(small);

    let mut command = dir.command(line.split(' '));
    command.env("TMPDIR", dir.join("nowhere"));
    crate::support::Run::of(&mut command)
        .exits(1)
        .says("nowhere: cannot create a temporary file for changes");
}
