//! Directories that others may write to, too: what they put there decides nothing about an image.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use mkqcow2::Silent;
use mkqcow2::error::{Error, Invalid};
use mkqcow2::restore::{Options, Restoring};

use crate::faults::{Job, OLD};
use crate::refusals::Listing;
use crate::support::loops::{Fuse, Held, Loop, Running};
use crate::support::{are_same, assert_equals, names_in, noise, root};

const MIB: u64 = 1 << 20;

/// Some user, who is not root.
const OTHER: u32 = 65534;

/// Runs as that user.
const AS_OTHER: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// A job, and a directory in it of an owner and a mode.
fn job(test: &str, owner: u32, mode: u32) -> (Job, PathBuf) {
    root::needed();
    let job = Job::new(test, MIB);
    fs::set_permissions(&job.disk, Permissions::from_mode(0o644)).unwrap();
    let shared = job.dir.join("shared");
    fs::create_dir(&shared).unwrap();
    set(&shared, owner, mode);
    (job, shared)
}

fn set(path: &Path, owner: u32, mode: u32) {
    chown(path, Some(owner), Some(owner)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A file of an owner and a mode.
fn file(path: &Path, content: &[u8], owner: u32, mode: u32) {
    fs::write(path, content).unwrap();
    set(path, owner, mode);
}

fn link(to: impl AsRef<Path>, path: &Path, owner: u32) {
    symlink(to, path).unwrap();
    lchown(path, Some(owner), Some(owner)).unwrap();
}

/// Owner and mode.
fn rights(path: &Path) -> (u32, u32) {
    let metadata = path.symlink_metadata().unwrap();
    (metadata.uid(), metadata.mode() & 0o7777)
}

/// Without files that FUSE still has open.
fn names(directory: &Path) -> Vec<String> {
    let mut names = names_in(directory);
    names.retain(|name| !name.starts_with(".fuse_hidden"));
    names
}

const TAKEN: &str =
    "was replaced by something else during the run, and is left as it is: the new file is complete, as ";

/// Lets a run find another file by the name of its image, in a directory, and holds it to leaving that alone.
#[track_caller]
fn leaves_alone(job: &Job, arguments: &str, shared: &Path, plant: impl FnOnce(&Path)) {
    let run = Held::start(&job.dir, arguments);
    let image = shared.join("image");
    plant(&image);
    let planted = image.symlink_metadata().unwrap();

    let run = run.let_go().exits(1).says(&format!("/image: {TAKEN}"));

    let now = image.symlink_metadata().unwrap();
    assert_eq!((now.ino(), now.len()), (planted.ino(), planted.len()));
    assert_eq!(now.ctime_nsec(), planted.ctime_nsec());
    let names = names(shared);
    let kept: Vec<_> = names
        .iter()
        .filter(|name| name.starts_with("image.kept-"))
        .collect();
    assert_eq!((kept.len(), names.len()), (1, 2), "{names:?}");
    run.says(&format!("{} (compare both, and rename the new one)\n", kept[0]));
    let kept = shared.join(kept[0]);
    assert_eq!(rights(&kept), (0, 0o600));
    assert_equals(&job.disk, &kept);
    fs::remove_file(kept).unwrap();
    fs::remove_file(image).unwrap();
}

#[test]
fn what_another_user_puts_in_the_place_of_a_new_image_is_left_alone_as_root() {
    let (job, shared) = job("shared-new", 0, 0o1777);
    let view = Fuse::passthrough(&shared, job.dir.join("view"));
    file(&job.dir.join("victim"), b"precious", 0, 0o644);
    for (arguments, directory) in [
        ("disk.raw shared/image", &*shared),
        ("--no-sync disk.raw shared/image", &shared),
        ("disk.raw view/image", view.path()),
    ] {
        let is = |plant: &dyn Fn(&Path)| leaves_alone(&job, arguments, directory, plant);
        is(&|image| file(image, b"theirs", OTHER, 0o666));
        is(&|image| link("../victim", image, OTHER));
        is(&|image| link("nowhere", image, OTHER));
        assert_eq!(fs::read(job.dir.join("victim")).unwrap(), b"precious");
    }
}

#[test]
fn what_another_user_puts_in_the_place_of_a_restored_disk_is_left_alone_as_root() {
    let (job, shared) = job("shared-restored", 0, 0o1777);
    job.dir.run("disk.raw source.qcow2").exits(0);
    let target = shared.join("disk");
    let restoring = Restoring::prepare(&job.dir.join("source.qcow2"), &target, Options::default());
    file(&target, b"theirs", OTHER, 0o666);

    let error = restoring.unwrap().run(&Silent).unwrap_err();

    let Error::Invalid(Invalid::TargetTaken {
        kept,
        is_synced: true,
    }) = error
    else {
        panic!("{error:?}");
    };
    assert!(are_same(&kept, &job.disk));
    assert_eq!(rights(&kept), (0, 0o600));
    assert_eq!(fs::read(&target).unwrap(), b"theirs");
    assert_eq!(names(&shared).len(), 2);
}

#[test]
fn what_takes_the_place_of_an_old_image_is_left_alone_as_root() {
    let (job, shared) = job("shared-old", 0, 0o755);
    let image = shared.join("image");
    let by = |plant: fn(&Path)| {
        file(&image, OLD, 0, 0o644);
        leaves_alone(&job, "disk.raw shared/image", &shared, |image| {
            fs::remove_file(image).unwrap();
            plant(image);
        });
    };
    by(|image| file(image, b"another", 0, 0o644));
    by(|image| link("another", image, 0));
}

#[test]
fn a_name_that_is_too_long_to_be_added_to_is_not_needed_to_keep_an_image_as_root() {
    let (job, shared) = job("shared-long", 0, 0o1777);
    let long = "i".repeat(250);
    let run = Held::start(&job.dir, &format!("disk.raw shared/{long}"));
    file(&shared.join(&long), b"theirs", OTHER, 0o666);

    run.let_go().exits(1).says(TAKEN);

    let names = names(&shared);
    let kept = names
        .iter()
        .find(|name| name.starts_with("mkqcow2.kept-"))
        .unwrap();
    assert_equals(&job.disk, &shared.join(kept));
}

#[test]
fn an_old_image_that_is_moved_away_meanwhile_leaves_its_name_and_its_rights_as_root() {
    let (job, shared) = job("shared-moved", 0, 0o755);
    let image = shared.join("image");
    file(&image, OLD, 1000, 0o640);
    let run = Held::start(&job.dir, "disk.raw shared/image");
    fs::rename(&image, shared.join("yesterday")).unwrap();

    run.let_go().exits(0);

    assert_eq!(names(&shared), ["image", "yesterday"]);
    assert_eq!(rights(&image), (1000, 0o640));
    assert_equals(&job.disk, &image);
}

/// Holds a run to a refusal that changes nothing.
#[track_caller]
fn refused(job: &Job, arguments: &str, says: &str) {
    let shared = job.dir.join("shared");
    let before = (Listing::of(job.dir.path()), Listing::of(&shared));
    for options in ["", "-n "] {
        let arguments = match arguments.strip_prefix("restore ") {
            Some(rest) => format!("restore {options}{rest}"),
            None => format!("{options}{arguments}"),
        };
        job.dir.run(&arguments).exits(1).says(says);
        assert_eq!((Listing::of(job.dir.path()), Listing::of(&shared)), before);
    }
}

#[test]
fn a_link_that_others_may_have_planted_is_not_followed_as_root() {
    let (job, shared) = job("shared-link", 0, 0o1777);
    job.dir.run("disk.raw source.qcow2").exits(0);
    file(&job.dir.join("victim"), b"precious", 0, 0o644);
    let device = job.dir.sparse("device.raw", MIB, &[(0, &noise(2, 1 << 20))]);
    let device = Loop::over(&device);
    link("../victim", &shared.join("image"), OTHER);
    link("../new", &shared.join("new"), OTHER);
    link(device.path(), &shared.join("device"), OTHER);
    link("shared/image", &job.dir.join("way"), 0);
    let says = |name: &str| {
        format!(
            "leads through {name}, a symbolic link of user {OTHER} in a directory that others may write to, \
             expected a link of your own or of root (name the file that it points to)\n"
        )
    };
    let written = device.sectors_written();

    for mode in [0o1777, 0o777, 0o775] {
        set(&shared, 0, mode);
        refused(&job, "disk.raw shared/image", &says("shared/image"));
        refused(&job, "disk.raw shared/new", &says("shared/new"));
        refused(&job, "disk.raw way", &says("shared/image"));
        refused(&job, "restore source.qcow2 shared/image", &says("shared/image"));
        refused(&job, "restore source.qcow2 shared/device", &says("shared/device"));
    }
    assert_eq!(device.sectors_written(), written);
    // Theirs is the directory, or ours alone.
    for (owner, mode) in [(OTHER, 0o1777), (0, 0o755)] {
        set(&shared, owner, mode);
        job.dir.run("--overwrite disk.raw way").exits(0);
        assert_equals(&job.disk, &job.dir.join("victim"));
        job.dir.run("disk.raw shared/new").exits(0);
        assert_equals(&job.disk, &job.dir.join("new"));
    }
}

#[test]
fn links_of_root_are_followed_wherever_they_are_as_root() {
    let (job, shared) = job("shared-root-link", OTHER, 0o1777);
    fs::create_dir(job.dir.join("disks")).unwrap();
    link("../disks", &shared.join("backup"), 0);
    link("backup/../disks/image", &shared.join("image"), 0);

    job.dir.run("disk.raw shared/backup/image").exits(0);
    assert_equals(&job.disk, &job.dir.join("disks/image"));
    job.dir.run("-c zstd disk.raw shared/image").exits(0);
    assert_equals(&job.disk, &job.dir.join("disks/image"));
    assert_eq!(names(&shared), ["backup", "image"]);
}

#[test]
fn a_directory_is_the_one_that_its_name_named_at_the_start_as_root() {
    let (job, shared) = job("shared-turned", 0, 0o755);
    for name in ["first", "second"] {
        fs::create_dir(job.dir.join(name)).unwrap();
    }
    let backup = shared.join("backup");
    link("../first", &backup, 0);
    let run = Held::start(&job.dir, "disk.raw shared/backup/image");
    fs::remove_file(&backup).unwrap();
    link("../second", &backup, 0);

    run.let_go()
        .exits(3)
        .says("its directory was renamed during the run");

    assert_equals(&job.disk, &job.dir.join("first/image"));
    assert_eq!(names(&job.dir.join("second")), [""; 0]);
}

#[test]
fn an_image_of_another_user_is_replaced_only_where_nobody_else_can_have_put_it_as_root() {
    let (job, shared) = job("shared-owner", 0, 0o755);
    job.dir.run("disk.raw source.qcow2").exits(0);
    let image = shared.join("image");
    let says = "shared/image: belongs to user 65534, who could read the new file, expected a file of your own \
        or of root \
                (remove it, chown it, or write to a directory that only you may write to)\n";
    for (owner, mode) in [(0, 0o1777), (0, 0o775), (0, 0o757), (1000, 0o755), (OTHER, 0o775)] {
        file(&image, OLD, OTHER, 0o644);
        set(&shared, owner, mode);
        refused(&job, "disk.raw shared/image", says);
        refused(&job, "restore source.qcow2 shared/image", says);
    }
    for (owner, mode) in [(0, 0o755), (0, 0o700), (OTHER, 0o755), (OTHER, 0o1755)] {
        file(&image, OLD, OTHER, 0o640);
        set(&shared, owner, mode);
        job.dir.run("disk.raw shared/image").exits(0);
        assert_equals(&job.disk, &image);
        assert_eq!(rights(&image), (OTHER, 0o640));
    }
}

#[test]
fn ones_own_image_is_replaced_in_any_directory_night_by_night_as_root() {
    let (job, shared) = job("shared-own", 0, 0o1777);
    let image = shared.join("image");
    for mode in [0o1777, 0o777] {
        set(&shared, 0, mode);
        for _ in 0..3 {
            let run = Running::of(job.under(&AS_OTHER, "disk.raw shared/image"));
            assert_eq!(run.ends().exits(0).stderr(), "");
            assert_equals(&job.disk, &image);
            assert_eq!(rights(&image), (OTHER, 0o600));
        }
        fs::remove_file(&image).unwrap();
        for _ in 0..3 {
            job.dir.run("disk.raw shared/image").exits(0);
            assert_eq!(rights(&image), (0, 0o600));
        }
        fs::remove_file(&image).unwrap();
    }
}

#[test]
fn a_user_other_than_root_replaces_no_image_of_others_as_root() {
    let (job, shared) = job("shared-user", OTHER, 0o755);
    let image = shared.join("image");
    let run = || Running::of(job.under(&AS_OTHER, "disk.raw shared/image")).ends();
    file(&image, OLD, 1000, 0o666);
    run()
        .exits(1)
        .says("belongs to user 1000, who could read the new file");
    assert_eq!(fs::read(&image).unwrap(), OLD);

    file(&image, OLD, 0, 0o666);
    run()
        .exits(0)
        .says("warning: the image could not be given the owner of the one it replaced");

    assert_equals(&job.disk, &image);
    assert_eq!(names(&shared), ["image"]);
}

#[test]
fn where_all_files_belong_to_one_user_an_image_is_replaced_night_by_night_as_root() {
    let (job, shared) = job("shared-one-owner", 0, 0o777);
    let view = Fuse::of_one_owner("nobody", &shared, job.dir.join("view"));
    for _ in 0..3 {
        job.dir.run("disk.raw view/image").exits(0);
        assert_equals(&job.disk, &shared.join("image"));
        assert_eq!(rights(&view.path().join("image")), (OTHER, 0o777));
    }
}
