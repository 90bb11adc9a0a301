//! The image that an incremental one stands on: it must be the right one, and as it was.

use std::fs;

use rustix::process::Signal;

use crate::support::loops::Running;
use crate::support::{Dice, Dir, are_same, flip, noise, poke, qemu};

const MIB: usize = 1 << 20;

/// What goes wrong with a base that was written to.
const CHANGED: &str = "mon.qcow2: was written to since it was made: what stands on it would be read wrong";

/// `mon.qcow2` is an image of `mon.raw`; `tue.qcow2`, of `tue.raw`, stands on it; `wed.qcow2` on that.
fn week(test: &str, options: &str) -> Dir {
    let dir = Dir::new(&format!("bases-{test}"));
    let mut disk = noise(1, 2 * MIB);
    fs::write(dir.join("mon.raw"), &disk).unwrap();
    disk[MIB..MIB + 100_000].copy_from_slice(&noise(2, 100_000));
    disk[300_000..500_000].fill(0);
    fs::write(dir.join("tue.raw"), &disk).unwrap();
    disk[7] ^= 1;
    fs::write(dir.join("wed.raw"), &disk).unwrap();
    dir.run(&format!("-q --no-sync {options} mon.raw mon.qcow2"))
        .exits(0);
    dir.run("-q --no-sync --base mon.qcow2 tue.raw tue.qcow2")
        .exits(0);
    dir.run("-q --no-sync --base tue.qcow2 wed.raw wed.qcow2")
        .exits(0);
    dir
}

/// Everything that reads an image refuses it with these words, and writes nothing.
#[track_caller]
fn nothing_reads(dir: &Dir, image: &str, words: &str) {
    fs::write(dir.join("old.raw"), b"old").unwrap();
    for (line, status) in [
        (format!("restore --overwrite {image} old.raw"), 1),
        (format!("map {image}"), 1),
        (format!("compare {image} tue.raw"), 2),
        (format!("--source-format qcow2 {image} new.qcow2"), 1),
        (format!("--base {image} wed.raw new.qcow2"), 1),
    ] {
        dir.run(&line).exits(status).says(words);
    }
    assert_eq!(fs::read(dir.join("old.raw")).unwrap(), b"old");
    assert!(!dir.join("new.qcow2").exists());
    let full = dir.run(&format!("--full-if-unfit --base {image} wed.raw new.qcow2"));
    full.exits(0)
        .says("new.qcow2: warning: is a full image, because it cannot stand on");
    dir.run("compare -q new.qcow2 wed.raw").exits(0);
    dir.run("info new.qcow2")
        .exits(0)
        .prints("backing file       none");
    fs::remove_file(dir.join("new.qcow2")).unwrap();
}

#[track_caller]
fn restores(dir: &Dir, options: &str, image: &str, raw: &str) {
    dir.run(&format!("restore -q --no-sync {options} {image} restored.raw"))
        .exits(0);
    assert!(are_same(&dir.join("restored.raw"), &dir.join(raw)));
}

#[test]
fn a_base_at_the_side_of_its_image_is_read_without_being_asked_for() {
    let dir = week("beside", "--digests");
    restores(&dir, "", "wed.qcow2", "wed.raw");
    dir.run("verify wed.qcow2")
        .exits(0)
        .prints("wed.qcow2: all right")
        .prints("tue.qcow2: all right")
        .prints("mon.qcow2: all right");
    dir.run("check wed.qcow2").exits(0).prints("mon.qcow2: no errors");
    dir.run("verify --only wed.qcow2")
        .exits(0)
        .says("its backing file, which was not read");
    let info = dir.run("info --json wed.qcow2").exits(0).json();
    assert_eq!(info["bases"][0]["filename"], "tue.qcow2");
    assert_eq!(info["bases"][1]["filename"], "mon.qcow2");
    assert_eq!(info["base"]["uuid"], info["bases"][0]["uuid"]);
    let json = dir.run("verify --json wed.qcow2").exits(0).json();
    assert_eq!(json["bases"].as_array().unwrap().len(), 2);
    dir.run("compare -q wed.qcow2 wed.raw").exits(0);
    dir.run("map wed.qcow2").exits(0).prints("backing file 2");
}

#[test]
fn a_base_elsewhere_is_read_on_request_only() {
    let dir = week("elsewhere", "");
    fs::create_dir(dir.join("sub")).unwrap();
    dir.run("-q --no-sync --base wed.qcow2 mon.raw sub/thu.qcow2")
        .exits(0);
    let info = dir.run("info --json sub/thu.qcow2").exits(0).json();
    assert_eq!(info["backing-file"]["name"], "../wed.qcow2");
    dir.run("restore sub/thu.qcow2 r.raw")
        .exits(1)
        .says("sub/thu.qcow2: needs its backing file, \"../wed.qcow2\", which is opened only on request");
    dir.run("verify sub/thu.qcow2")
        .exits(0)
        .says("which was not read");
    dir.run("verify --follow sub/thu.qcow2")
        .exits(0)
        .prints("mon.qcow2: all right");
    restores(&dir, "--follow", "sub/thu.qcow2", "mon.raw");
    // All of it can be moved together.
    fs::create_dir(dir.join("moved")).unwrap();
    for name in ["mon.qcow2", "tue.qcow2", "wed.qcow2", "sub"] {
        fs::rename(dir.join(name), dir.join("moved").join(name)).unwrap();
    }
    restores(&dir, "--follow", "moved/sub/thu.qcow2", "mon.raw");
}

#[test]
fn a_base_that_is_not_there_is_named() {
    let dir = week("missing", "");
    fs::rename(dir.join("mon.qcow2"), dir.join("away.qcow2")).unwrap();
    nothing_reads(
        &dir,
        "tue.qcow2",
        "mon.qcow2: no such file, but tue.qcow2 names it as its backing file",
    );
    dir.run("verify tue.qcow2")
        .exits(1)
        .says("mon.qcow2: no such file");
    dir.run("check tue.qcow2")
        .exits(1)
        .says("mon.qcow2: no such file");
    dir.run("info tue.qcow2")
        .exits(0)
        .says("mon.qcow2: warning: no such file");
    restores(&dir, "--backing away.qcow2", "tue.qcow2", "tue.raw");
    dir.run("--base none.qcow2 tue.raw new.qcow2")
        .exits(1)
        .says("none.qcow2: cannot open");
}

#[test]
fn another_image_is_no_base() {
    let dir = week("another", "");
    // Of the same size, and from the same host at the same time.
    dir.run("-q --no-sync wed.raw other.qcow2").exits(0);
    dir.run("restore --backing other.qcow2 tue.qcow2 r.raw")
        .exits(1)
        .says("other.qcow2: is another image: its UUID is ");
    fs::copy(dir.join("other.qcow2"), dir.join("mon.qcow2")).unwrap();
    nothing_reads(&dir, "tue.qcow2", "mon.qcow2: is another image: its UUID is ");
    nothing_reads(&dir, "wed.qcow2", "mon.qcow2: is another image: its UUID is ");
    dir.run("verify tue.qcow2")
        .exits(2)
        .says("mon.qcow2: is another image");
    dir.run("check tue.qcow2")
        .exits(2)
        .says("mon.qcow2: is another image");
    dir.run("info tue.qcow2")
        .exits(0)
        .says("mon.qcow2: warning: is another image");
    // The same once more is not another.
    dir.run("-q --no-sync mon.raw mon.qcow2").exits(0);
    restores(&dir, "", "wed.qcow2", "wed.raw");
}

#[test]
fn a_base_that_was_written_to_is_none_any_more() {
    let dir = week("written", "");
    qemu::io(&dir, "qcow2", "mon.qcow2", &["write -P 7 1M 64k"]);
    nothing_reads(&dir, "tue.qcow2", CHANGED);
    nothing_reads(&dir, "wed.qcow2", CHANGED);
    dir.run("verify wed.qcow2").exits(2).says(CHANGED);
    // An image that a guest has written to is still read, from its own base, if that is wanted.
    let dir = week("top-written", "");
    qemu::io(&dir, "qcow2", "tue.qcow2", &["write -P 7 1M 64k"]);
    dir.run("restore tue.qcow2 r.raw")
        .exits(1)
        .says("opened only on request");
    dir.run("restore -q --follow tue.qcow2 r.raw").exits(0);
}

#[test]
fn what_is_no_image_of_ours_is_no_base() {
    let dir = week("foreign", "");
    qemu::img(&dir, "convert -f raw -O qcow2 mon.raw qemu.qcow2");
    dir.run("-q --no-sync --no-checksums mon.raw bare.qcow2").exits(0);
    qemu::img(&dir, "create -f qcow2 -b mon.qcow2 -F qcow2 over.qcow2");
    for (base, words) in [
        (
            "qemu.qcow2",
            "qemu.qcow2: does not say which image it is: another program made it",
        ),
        ("bare.qcow2", "bare.qcow2: does not say which image it is"),
        ("over.qcow2", "over.qcow2: does not say which image it is"),
        ("mon.raw", "mon.raw: not a qcow2 image"),
        (".", ".: is a directory"),
    ] {
        dir.run(&format!("--base {base} tue.raw new.qcow2"))
            .exits(1)
            .says(words);
        assert!(!dir.join("new.qcow2").exists());
    }
    // As what is behind an image, neither.
    fs::copy(dir.join("qemu.qcow2"), dir.join("mon.qcow2")).unwrap();
    nothing_reads(&dir, "tue.qcow2", "mon.qcow2: does not say which image it is");
    fs::copy(dir.join("mon.raw"), dir.join("mon.qcow2")).unwrap();
    dir.run("restore tue.qcow2 r.raw").exits(1).says("mon.qcow2: ");
}

#[test]
fn an_image_never_stands_on_itself() {
    let dir = week("itself", "");
    fs::hard_link(dir.join("mon.qcow2"), dir.join("hard.qcow2")).unwrap();
    std::os::unix::fs::symlink("tue.qcow2", dir.join("soft.qcow2")).unwrap();
    let before = fs::read(dir.join("mon.qcow2")).unwrap();
    for image in ["wed.qcow2", "tue.qcow2", "mon.qcow2", "hard.qcow2", "soft.qcow2"] {
        dir.run(&format!("--base wed.qcow2 mon.raw {image}"))
            .exits(1)
            .says(&format!("{image}: is the base, or an image behind it"));
    }
    assert!(fs::read(dir.join("mon.qcow2")).unwrap() == before);
    restores(&dir, "", "wed.qcow2", "wed.raw");
}

#[test]
fn a_damaged_base_is_never_read_as_if_it_were_right() {
    let dir = week("damaged", "--digests");
    let good = fs::read(dir.join("mon.qcow2")).unwrap();
    let path = dir.join("mon.qcow2");
    let mut dice = Dice::new(5);
    let (mut refused, mut unharmed) = (0, 0);
    for _ in 0..60 {
        fs::write(&path, &good).unwrap();
        let at = dice.below(good.len() as u64);
        if dice.below(4) == 0 {
            fs::write(&path, &good[..at as usize]).unwrap();
        } else {
            flip(&path, at, 1 << dice.below(8));
        }
        let run = dir.run("restore -q --no-sync --overwrite tue.qcow2 r.raw");
        if run.status() == 0 {
            assert!(are_same(&dir.join("r.raw"), &dir.join("tue.raw")));
            unharmed += 1;
        } else {
            run.says("mon.qcow2");
            refused += 1;
        }
        // What is made on it reads right, or is not made, or is refused later.
        let run = dir.run("-q --no-sync --base mon.qcow2 wed.raw new.qcow2");
        if run.status() == 0 {
            let run = dir.run("restore -q --no-sync --overwrite new.qcow2 r.raw");
            let is_right = || are_same(&dir.join("r.raw"), &dir.join("wed.raw"));
            assert!(run.status() != 0 || is_right());
        }
    }
    assert!(
        refused > 30 && unharmed > 0,
        "{refused} refused, {unharmed} unharmed"
    );
}

#[test]
fn too_many_images_do_not_stand_on_each_other() {
    let dir = Dir::new("bases-deep");
    fs::write(dir.join("disk.raw"), noise(1, 4096)).unwrap();
    dir.run("-q --no-sync --cluster-size 4K disk.raw 0.qcow2")
        .exits(0);
    for number in 1..=64 {
        let line = format!(
            "-q --no-sync --cluster-size 4K --base {}.qcow2 disk.raw {number}.qcow2",
            number - 1
        );
        dir.run(&line).exits(0);
    }
    restores(&dir, "", "64.qcow2", "disk.raw");
    dir.run("verify -q 64.qcow2").exits(0);
    dir.run("--cluster-size 4K --base 64.qcow2 disk.raw 65.qcow2")
        .exits(1)
        .says("64.qcow2: stands on 64 images already, one behind the other, which is as many as can be read");
}

#[test]
fn a_base_of_version_2_that_was_written_to_is_noticed_by_its_checksums() {
    for options in ["--compat 0.10", "--compat 0.10 --digests"] {
        let dir = week("version-2", options);
        qemu::io(&dir, "qcow2", "mon.qcow2", &["write -P 7 0 64k"]);
        dir.run("restore --overwrite tue.qcow2 r.raw")
            .exits(1)
            .says("mon.qcow2");
        // Byte by byte: its digests may be out of date.
        dir.run("--base mon.qcow2 mon.raw new.qcow2")
            .exits(1)
            .says("mon.qcow2");
        assert!(!dir.join("new.qcow2").exists());
    }
}

#[test]
fn an_image_whose_record_is_damaged_stands_on_nothing_that_is_only_called_so() {
    let dir = week("record", "");
    let bytes = fs::read(dir.join("tue.qcow2")).unwrap();
    let at = bytes.windows(8).position(|bytes| bytes == b"mkqrecrd").unwrap();
    flip(&dir.join("tue.qcow2"), at as u64 + 40, 1);
    dir.run("-q --no-sync wed.raw mon.qcow2").exits(0);
    for options in ["", "--follow"] {
        dir.run(&format!("restore {options} tue.qcow2 r.raw"))
            .exits(1)
            .says("tue.qcow2: record at");
    }
    assert!(!dir.join("r.raw").exists());
    // Whoever names it knows what it is.
    dir.run("-q --no-sync mon.raw mon.qcow2").exits(0);
    dir.run("restore -q --no-sync --backing mon.qcow2 tue.qcow2 r.raw")
        .exits(3)
        .says("its record of the source is damaged");
    assert!(are_same(&dir.join("r.raw"), &dir.join("tue.raw")));
}

#[test]
fn images_in_a_loop_are_refused() {
    let dir = week("loop", "");
    qemu::img(&dir, "rebase -u -F qcow2 -b tue.qcow2 mon.qcow2");
    // As if nobody had written to it.
    poke(&dir.join("mon.qcow2"), 88, &[0x80]);
    let run = dir.run("restore wed.qcow2 r.raw");
    assert_eq!(run.status(), 1);
    let run = dir.run("restore --follow wed.qcow2 r.raw");
    assert_eq!(run.status(), 1);
    dir.run("verify --follow wed.qcow2");
}

/// Changes the last four bytes so that the CRC-32 is what it was, although the first one is another.
fn same_crc(cluster: &[u8]) -> Vec<u8> {
    let crc_of = |difference: &[u8]| crc32fast::hash(difference) ^ crc32fast::hash(&vec![0; cluster.len()]);
    let length = cluster.len();
    let mut difference = vec![0; length];
    difference[0] = 1;
    let mut left = crc_of(&difference);
    // What each of the last 32 bits changes; as a basis, by the highest bit.
    let mut basis: Vec<(u32, u32)> = Vec::new();
    for bit in 0..32 {
        let mut one = vec![0; length];
        one[length - 4 + bit / 8] = 1 << (bit % 8);
        let mut vector = (crc_of(&one), 1_u32 << bit);
        for (crc, bits) in &basis {
            if vector.0 ^ crc < vector.0 {
                vector = (vector.0 ^ crc, vector.1 ^ bits);
            }
        }
        basis.push(vector);
        basis.sort_by_key(|(crc, _)| std::cmp::Reverse(*crc));
    }
    let mut bits = 0;
    for (crc, of) in &basis {
        if left ^ crc < left {
            left ^= crc;
            bits ^= of;
        }
    }
    assert_eq!(left, 0);
    difference[length - 4..].copy_from_slice(&bits.to_le_bytes());
    cluster.iter().zip(&difference).map(|(a, b)| a ^ b).collect()
}

#[test]
fn clusters_with_the_same_crc_32_are_told_apart() {
    let dir = Dir::new("bases-crc");
    let cluster = noise(9, 64 << 10);
    let other = same_crc(&cluster);
    assert!(cluster != other && crc32fast::hash(&cluster) == crc32fast::hash(&other));
    fs::write(dir.join("mon.raw"), &cluster).unwrap();
    fs::write(dir.join("tue.raw"), &other).unwrap();
    for base in ["--digests", "--no-digests", "-c zstd", "--compat 0.10"] {
        dir.run(&format!("-q --no-sync {base} mon.raw mon.qcow2"))
            .exits(0);
        for options in ["", "--no-digests"] {
            dir.run(&format!(
                "-q --no-sync {options} --base mon.qcow2 tue.raw tue.qcow2"
            ))
            .exits(0);
            restores(&dir, "", "tue.qcow2", "tue.raw");
        }
    }
}

#[test]
fn a_run_that_is_killed_leaves_what_was_there() {
    let dir = week("killed", "-c zlib:9");
    let (base, old) = (
        fs::read(dir.join("tue.qcow2")).unwrap(),
        fs::read(dir.join("wed.qcow2")).unwrap(),
    );
    fs::write(dir.join("new.raw"), noise(77, 24 * MIB)).unwrap();
    let mut dice = Dice::new(3);
    for signal in [Signal::KILL, Signal::TERM, Signal::KILL, Signal::INT] {
        let running = Running::start(&dir, "-q -c zlib:9 --base tue.qcow2 new.raw wed.qcow2");
        std::thread::sleep(std::time::Duration::from_millis(dice.below(150)));
        running.send(signal).ends();
        assert!(fs::read(dir.join("tue.qcow2")).unwrap() == base);
        if fs::read(dir.join("wed.qcow2")).unwrap() == old {
            restores(&dir, "", "wed.qcow2", "wed.raw");
        } else {
            restores(&dir, "", "wed.qcow2", "new.raw");
        }
    }
}

#[test]
fn a_stream_can_stand_on_a_base_in_two_passes() {
    let dir = week("stream", "");
    dir.run("--base mon.qcow2 tue.raw -")
        .exits(64)
        .says("--base to standard output needs --two-pass");
    dir.run("--no-checksums --base mon.qcow2 tue.raw x.qcow2")
        .exits(64)
        .says("--base needs checksums");
    let run = dir.run("-q --two-pass --base mon.qcow2 tue.raw -").exits(0);
    fs::write(dir.join("piped.qcow2"), run.bytes()).unwrap();
    restores(&dir, "--follow", "piped.qcow2", "tue.raw");
    qemu::assert_clean(&dir.join("piped.qcow2"));
}
