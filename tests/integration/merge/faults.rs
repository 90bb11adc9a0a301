//! Whatever goes wrong, the image is the old one or the new one.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::Chain;
use crate::support::loops::{Mount, Running};
use crate::support::qemu;

const OPTIONS: [&str; 4] = ["-c zstd", "--cluster-size 4K", "", "-c zlib"];

#[test]
fn killed_at_any_moment_it_leaves_the_old_image_or_the_new_one() {
    let chain = Chain::new("merge-killed", OPTIONS);
    let begun = Instant::now();
    chain.dir.run("merge -q d.qcow2").exits(0);
    let longest = begun.elapsed();
    let new = fs::read(chain.dir.join("d.qcow2")).unwrap();
    let mut old = 0;
    for signal in [Signal::KILL, Signal::TERM] {
        for moment in 0_u32..20 {
            chain.put_back();
            let run = Running::start(&chain.dir, "merge -q d.qcow2");
            sleep(longest.mul_f64(f64::from(moment) / 20.0));

            run.send(signal).ends();

            let found = fs::read(chain.dir.join("d.qcow2")).unwrap();
            assert!(found == chain.image || found == new, "{signal:?} {moment}");
            old += u32::from(found == chain.image);
            if signal != Signal::KILL {
                chain.has_no_debris();
            }
            chain.bases_are_as_before();
        }
    }
    // What a kill has left has a name for a moment at most, and the next run removes it.
    chain.put_back();
    chain.dir.run("merge -q d.qcow2").exits(0);
    chain.has_no_debris();
    assert!(old > 5, "{old} of 40 were killed in time");
}

#[test]
fn the_number_of_threads_does_not_show() {
    let chain = Chain::new("merge-threads", OPTIONS);
    let merged = ["-j 1", "-j 7"].map(|threads| {
        chain.put_back();
        chain
            .dir
            .run(&format!("merge -q --no-sync {threads} d.qcow2"))
            .exits(0);
        fs::read(chain.dir.join("d.qcow2")).unwrap()
    });
    assert!(merged[0] == merged[1]);
}

#[test]
fn a_full_filesystem_keeps_the_old_image_as_root() {
    let chain = Chain::new("merge-full", OPTIONS);
    let names = ["a", "b", "c", "d"].map(|name| format!("{name}.qcow2"));
    let taken: u64 = names
        .iter()
        .map(|name| fs::metadata(chain.dir.join(name)).unwrap().len())
        .sum();
    for room in [64 << 10, 500_000, 1 << 20] {
        let full = Mount::tmpfs(taken + room, chain.dir.join("full"));
        for name in &names {
            fs::copy(chain.dir.join(name), full.join(name)).unwrap();
        }

        chain
            .dir
            .run("merge full/d.qcow2")
            .exits(1)
            .says("mkqcow2: full/d.qcow2: cannot write at 0x")
            .says("No space left on device")
            .says("(nothing was changed; mkqcow2 merge -n shows how much space is needed at most)\n");

        assert!(fs::read(full.join("d.qcow2")).unwrap() == chain.image, "{room}");
    }
}

#[test]
fn a_limit_on_the_size_of_files_keeps_the_old_image() {
    let chain = Chain::new("merge-limit", OPTIONS);
    let mut limited = Command::new("prlimit");
    limited
        .args(["--fsize=500000", crate::support::MKQCOW2, "merge", "d.qcow2"])
        .current_dir(chain.dir.path())
        .stdin(Stdio::null());

    crate::support::Run::of(&mut limited)
        .exits(1)
        .says("File too large")
        .says("nothing was changed");

    chain.is_unchanged();
}

#[test]
fn an_image_that_a_guest_has_open_is_refused() {
    let chain = Chain::new("merge-guest", ["", "", "", ""]);
    for name in ["d.qcow2", "a.qcow2"] {
        let mut guest = Command::new("qemu-io")
            .args(["-f", "raw", name])
            .current_dir(chain.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // It locks the file soon.
        let until = Instant::now() + Duration::from_secs(20);
        let mut run = chain.dir.run("merge -n d.qcow2");
        while run.status() == 0 && Instant::now() < until {
            sleep(Duration::from_millis(50));
            run = chain.dir.run("merge -n d.qcow2");
        }

        run.exits(1)
            .says(&format!("mkqcow2: {name}: "))
            .says("open for writing by QEMU");
        chain.dir.run("merge d.qcow2").exits(1);

        drop(guest.stdin.take());
        guest.wait().unwrap();
        chain.is_unchanged();
    }
    qemu::assert_clean(&chain.dir.join("d.qcow2"));
}
