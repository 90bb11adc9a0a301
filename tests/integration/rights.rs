//! Who may read a new image: those who could read the one it replaces, and nobody else.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::faults::{Job, OLD};
use crate::support::loops::Fuse;
use crate::support::{assert_equals, root, tool};

const MIB: u64 = 1 << 20;

/// A job, and a directory with an old image of that mode.
fn job(test: &str, mode: u32) -> (Job, PathBuf) {
    let job = Job::new(test, MIB);
    job.dir.run("disk.raw source.qcow2").exits(0);
    fs::create_dir(job.dir.join("real")).unwrap();
    let image = job.dir.join("real/image");
    fs::write(&image, OLD).unwrap();
    fs::set_permissions(&image, Permissions::from_mode(mode)).unwrap();
    (job, image)
}

fn set_acl(path: &Path, options: &[&str]) {
    tool("setfacl", options.iter().copied().chain([path.to_str().unwrap()]));
}

/// Without the names of users, and what is commented.
fn acl(path: &Path) -> Vec<String> {
    let options = [
        "--omit-header",
        "--numeric",
        "--absolute-names",
        path.to_str().unwrap(),
    ];
    let text = tool("getfacl", options);
    let lines = text.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| line.split('\t').next().unwrap().to_owned())
        .collect()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

#[test]
fn an_acl_is_kept_as_root() {
    let (job, image) = job("acl-kept", 0o600);
    set_acl(&image, &["-m", "u:1000:r,u:1001:-,g:1002:rw,g::-,m::r,o::-"]);
    let before = acl(&image);
    assert_eq!(mode(&image), 0o640, "the mask is where the group's mode would be");
    assert_eq!(before.len(), 7, "{before:?}");
    let _view = Fuse::passthrough(&job.dir.join("real"), job.dir.join("view"));

    for directory in ["real", "view"] {
        let run = job
            .dir
            .run(&format!("--overwrite disk.raw {directory}/image"))
            .exits(0);
        assert_eq!(run.stderr(), "");
        assert_equals(&job.disk, &image);
        assert_eq!(
            (acl(&image), mode(&image)),
            (before.clone(), 0o640),
            "{directory}"
        );
        job.dir
            .run(&format!("restore --overwrite source.qcow2 {directory}/image"))
            .exits(0);
        assert_eq!(
            (acl(&image), mode(&image)),
            (before.clone(), 0o640),
            "{directory}"
        );
    }
}

#[test]
fn an_acl_that_cannot_be_kept_leaves_nobody_more_than_they_had_as_root() {
    let (job, image) = job("acl-lost", 0o600);
    let _view = Fuse::without_attributes(&job.dir.join("real"), job.dir.join("view"));
    let said = "mkqcow2: view/image: warning: the image could not be given the ACL or the security label of the one \
                it replaced: some users may be refused\n";
    for (entries, expected) in [
        ("u:1000:r,g::-,m::r,o::-", 0o600),
        ("u:1000:r,g::r,m::r,o::-", 0o640),
        ("u:1000:-,g::r,m::r,o::r", 0o600),
    ] {
        set_acl(&image, &["-b"]);
        set_acl(&image, &["-m", entries]);
        assert_eq!(mode(&image) & 0o770, 0o640);

        let run = job.dir.run("disk.raw view/image").exits(0);

        assert_eq!(run.stderr(), said);
        assert_equals(&job.disk, &image);
        assert_eq!((mode(&image), acl(&image).len()), (expected, 3), "{entries}");
    }
    set_acl(&image, &["-m", "u:1000:r,g::-"]);
    job.dir
        .run("restore --overwrite source.qcow2 view/image")
        .exits(0)
        .says("warning: could not be given the ACL or the security label of the file it replaced");
    assert_eq!(mode(&image), 0o600);
}

#[test]
fn users_whom_a_directory_gives_all_new_files_do_not_get_images_as_root() {
    let (job, image) = job("acl-default", 0o640);
    let real = job.dir.join("real");
    let new = real.join("new");
    set_acl(&real, &["-d", "-m", "u:1000:rwx,g:1001:rwx,g::rwx,o::rx,m::rwx"]);
    let _view = Fuse::passthrough(&real, job.dir.join("view"));
    fs::write(real.join("like any other"), "").unwrap();
    assert!(acl(&real.join("like any other")).contains(&"user:1000:rwx".to_owned()));

    for directory in ["real", "view"] {
        job.dir
            .run(&format!("--overwrite disk.raw {directory}/image"))
            .exits(0);
        assert_eq!(
            acl(&image),
            ["user::rw-", "group::r--", "other::---"],
            "{directory}"
        );
        for run in ["disk.raw", "restore --overwrite source.qcow2"] {
            let _ = fs::remove_file(job.dir.join(directory).join("new"));
            job.dir.run(&format!("{run} {directory}/new")).exits(0);
            assert_eq!(mode(&new), 0o600, "{directory}");
            let acl = acl(&new);
            // Whoever is named has what the mask leaves.
            let is_private = acl.contains(&"mask::---".to_owned()) && acl.contains(&"other::---".to_owned());
            assert!(is_private || acl.len() == 3, "{directory}: {acl:?}");
        }
    }
}

#[test]
fn security_labels_are_kept_and_what_is_sealed_or_granted_to_one_file_is_not_as_root() {
    root::needed();
    let (job, image) = job("labels", 0o600);
    // No privileges, in version 2.
    let mut capability = [0; 20];
    capability[3] = 2;
    for (name, value) in [
        ("security.mkqcow2-test", &b"label"[..]),
        ("security.capability", &capability),
        ("security.ima", b"\x01seal"),
        ("user.mkqcow2-test", b"mine"),
    ] {
        rustix::fs::setxattr(&image, name, value, XattrFlags::empty()).unwrap();
    }

    let run = job.dir.run("disk.raw real/image").exits(0);

    assert_eq!(run.stderr(), "");
    let get = |name| {
        let mut value = [0; 64];
        let length = rustix::fs::getxattr(&image, name, &mut value[..])?;
        Ok(value[..length].to_vec())
    };
    assert_eq!(get("security.mkqcow2-test"), Ok(b"label".to_vec()));
    for name in ["security.capability", "security.ima", "user.mkqcow2-test"] {
        assert_eq!(get(name), Err(Errno::NODATA), "{name}");
    }
    let _view = Fuse::without_attributes(&job.dir.join("real"), job.dir.join("view"));
    job.dir
        .run("disk.raw view/image")
        .exits(0)
        .says("could not be given the ACL or the security label");
}
