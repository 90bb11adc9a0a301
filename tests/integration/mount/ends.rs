//! How a mount ends, and that nothing is left then.

use std::fs::File;
use std::io::Read;

use rustix::process::Signal;

use super::served::{Served, unmount};
use crate::support::loops::{Mount, Running, until};
use crate::support::{Dir, root, tool};

fn dir(name: &str) -> Dir {
    let dir = Dir::new(name);
    dir.sparse("disk.raw", 1 << 20, &[(0, b"first"), (900_000, b"last")]);
    dir.image("");
    dir
}

/// A mount in the foreground.
fn foreground(dir: &Dir) -> (Served, Running) {
    root::needed();
    let served = Served::expected(dir, "disk.qcow2");
    let line = format!("mount --foreground {} point", dir.join("disk.qcow2").display());
    let run = Running::start(dir, &line);
    until("a mount", || served.is_mounted());
    (served, run)
}

#[test]
fn one_in_the_foreground_ends_when_it_is_unmounted_as_root() {
    let dir = dir("mount-foreground");
    let (served, run) = foreground(&dir);
    unmount(served.point());
    run.ends().exits(0).in_silence();
}

#[test]
fn signals_unmount_as_root() {
    for (signal, name) in [
        (Signal::TERM, "SIGTERM"),
        (Signal::INT, "SIGINT"),
        (Signal::HUP, "SIGHUP"),
    ] {
        let dir = dir("mount-signal");
        let (served, run) = foreground(&dir);
        // Until it waits for signals, one would kill it.
        until("a server", || served.join("disk.raw").exists());
        run.send(signal)
            .ends()
            .exits(0)
            .says(&format!("stopped by {name}, unmounted"));
        assert!(!served.is_mounted());
    }
}

#[test]
fn what_is_open_when_a_signal_comes_can_be_read_to_its_end_as_root() {
    let dir = dir("mount-open");
    let (served, run) = foreground(&dir);
    let mut file = File::open(served.join("disk.raw")).unwrap();
    let run = run.send(Signal::TERM);
    until("an end of the mount", || !served.is_mounted());

    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!((bytes.len(), &bytes[900_000..900_004]), (1 << 20, &b"last"[..]));
    drop(file);
    run.ends().exits(0).says("files are still open");
}

#[test]
fn a_second_signal_does_not_wait_for_open_files_as_root() {
    let dir = dir("mount-twice");
    let (served, run) = foreground(&dir);
    let mut file = File::open(served.join("disk.raw")).unwrap();
    let run = run.send(Signal::TERM);
    until("an end of the mount", || !served.is_mounted());
    run.send(Signal::TERM).ends().dies_of(Signal::TERM);
    assert!(file.read(&mut [0; 10]).is_err());
}

#[test]
fn one_in_the_background_has_a_session_of_its_own_and_ends_when_it_is_unmounted_as_root() {
    let dir = dir("mount-background");
    let served = Served::new(&dir, "", "disk.qcow2");
    let server = served.server().unwrap();
    assert_eq!(rustix::process::getsid(Some(server)).unwrap(), server);
    served.unmount();
    assert_eq!(dir.names(), ["disk.qcow2", "disk.raw", "point"]);
}

#[test]
fn a_server_that_is_killed_leaves_a_dead_mount_that_the_next_one_names_as_root() {
    let dir = dir("mount-killed");
    let served = Served::new(&dir, "--copy-on-write", "disk.qcow2");
    served.send(Signal::KILL);
    until("a server that is dead", || served.server().is_none());

    served
        .mount(&dir, "")
        .exits(1)
        .says("is the mount point of a filesystem whose program has ended (umount it first)");
    unmount(served.point());
    assert_eq!(dir.names(), ["disk.qcow2", "disk.raw", "point"]);
    served.mount(&dir, "").exits(0).in_silence();
    served.unmount();
}

#[test]
fn what_is_mounted_above_it_stays_as_root() {
    let dir = dir("mount-above");
    let (served, run) = foreground(&dir);
    let above = Mount::tmpfs(1 << 20, served.point().to_owned());
    let run = run.send(Signal::TERM);
    std::thread::sleep(std::time::Duration::from_millis(300));

    assert_eq!(
        tool("findmnt", ["-no", "FSTYPE", above.point().to_str().unwrap()])
            .lines()
            .count(),
        2
    );
    drop(above);
    unmount(served.point());
    run.ends().exits(0).says("cannot unmount it");
}
