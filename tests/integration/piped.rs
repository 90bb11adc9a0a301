//! An image that comes through a pipe.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::support::loops::{Loop, make_ext4};
use crate::support::{Dice, Dir, Run, noise, qemu, root};

const MIB: u64 = 1 << 20;

/// Runs `restore` with these bytes on standard input, which is a pipe.
fn feed(dir: &Dir, arguments: &str, bytes: &[u8]) -> Run {
    feed_in(dir, arguments, bytes, bytes.len().max(1), Duration::ZERO)
}

/// The same in pieces of so many bytes, with a pause behind each.
fn feed_in(dir: &Dir, arguments: &str, bytes: &[u8], piece: usize, pause: Duration) -> Run {
    let words = ["restore"].into_iter().chain(arguments.split_whitespace());
    fed(&mut dir.command(words), bytes, piece, pause)
}

/// The same to any command.
fn fed(command: &mut Command, bytes: &[u8], piece: usize, pause: Duration) -> Run {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            for piece in bytes.chunks(piece) {
                match stdin.write_all(piece) {
                    Ok(()) => thread::sleep(pause),
                    // It reads no more than it needs.
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => return,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        Run::from(child.wait_with_output().unwrap())
    })
}

/// A disk of 24 MiB with data, zeros and holes: the last of its clusters is there in part only.
fn disk(dir: &Dir) -> Vec<u8> {
    let (first, second) = (noise(1, 3 << 20), noise(2, 700_000));
    let size = 24 * MIB + 512;
    let end = noise(3, 2048);
    let path = dir.sparse(
        "disk.raw",
        size,
        &[
            (0, &first),
            (8 * MIB + 1024, &second),
            (12 * MIB, &vec![0; 300_000]),
            (size - 2048, &end),
        ],
    );
    fs::read(path).unwrap()
}

/// The stream that `mkqcow2 SOURCE -` writes.
fn stream(dir: &Dir, options: &str) -> Vec<u8> {
    let run = dir.run(&format!("-q --no-sync {options} disk.raw -")).exits(0);
    run.bytes().to_vec()
}

#[test]
fn every_stream_comes_back_in_one_pass() {
    let dir = Dir::new("piped");
    let disk = disk(&dir);
    for options in [
        "",
        "--cluster-size 512",
        "--cluster-size 4K --no-checksums",
        "--cluster-size 2M --compat 0.10",
        "--compat 0.10 --no-checksums",
        "-j 1",
    ] {
        let stream = stream(&dir, options);
        let run = feed(&dir, "--verify --overwrite - copy.raw", &stream).exits(0);
        assert!(fs::read(dir.join("copy.raw")).unwrap() == disk, "{options}");
        let is_checked = run.stdout().contains("checksums compared");
        assert_eq!(is_checked, !options.contains("no-checksums"), "{}", run.stdout());
        let run = feed(&dir, "-q - -", &stream).exits(0);
        assert!(run.bytes() == disk, "{options}, standard output");
        // Unaligned to any cluster.
        let run = feed(&dir, "-q --offset 2560K --length 7M - -", &stream).exits(0);
        assert!(
            run.bytes() == &disk[2560 << 10..(2560 << 10) + (7 << 20)],
            "{options}"
        );
    }
}

#[test]
fn a_stream_that_trickles_comes_back() {
    let dir = Dir::new("piped-trickle");
    let disk = disk(&dir);
    let stream = stream(&dir, "");
    let run = feed_in(&dir, "-q - -", &stream, 50_001, Duration::from_millis(2)).exits(0);
    assert!(run.bytes() == disk);
}

#[test]
fn a_filesystem_comes_back_through_a_pipe_to_a_device_full_of_ones_as_root() {
    root::needed();
    let dir = Dir::new("piped-device");
    let raw = dir.sparse("disk.raw", 40 * MIB, &[]);
    make_ext4(&raw);
    let stream = stream(&dir, "");
    dir.run("-q disk.raw disk.qcow2").exits(0);
    dir.run("restore -q disk.qcow2 expected.raw").exits(0);
    let target = dir.join("target.raw");
    // It is larger: what lies behind stays.
    fs::write(&target, vec![0xff; 41 << 20]).unwrap();
    let device = Loop::over(&target);
    let line = format!("--verify - {}", device.path().display());
    feed(&dir, &line, &stream)
        .exits(0)
        .prints("checksums compared, read back");
    drop(device);
    let (found, expected) = (
        fs::read(&target).unwrap(),
        fs::read(dir.join("expected.raw")).unwrap(),
    );
    assert!(found[..40 << 20] == expected);
    assert!(found[40 << 20..].iter().all(|byte| *byte == 0xff));
}

/// Cuts at every boundary of the stream and at random places.
fn cuts(stream: &[u8], count: usize) -> Vec<usize> {
    let mut dice = Dice::new(7);
    let length = stream.len();
    let mut cuts: Vec<_> = (0..=length / 4096)
        .flat_map(|cluster| {
            let at = cluster * 4096;
            [at.saturating_sub(1), at, at + 1]
        })
        .collect();
    // Most of what is not data lies at the two ends.
    cuts.extend((0..600).map(|at| length - 1 - at * 7));
    cuts.retain(|at| *at < length);
    while cuts.len() < count {
        cuts.push(usize::try_from(dice.below(u64::try_from(length).unwrap())).unwrap());
    }
    cuts.truncate(count);
    cuts
}

#[test]
fn a_thousand_cuts_are_all_failures_and_leave_the_old_file() {
    let dir = Dir::new("piped-cuts");
    let data = noise(4, 150_000);
    dir.sparse("disk.raw", 300_000 * 512, &[(1 << 20, &data), (100 << 20, &data)]);
    let stream = stream(&dir, "--cluster-size 4K");
    fs::write(dir.join("copy.raw"), "the old one").unwrap();
    let cuts = cuts(&stream, 1000);
    let check = |cuts: &[usize]| {
        for cut in cuts {
            let run = feed(&dir, "--no-sync - copy.raw", &stream[..*cut]).exits(1);
            let said = format!("mkqcow2: standard input: ends after {cut} bytes, expected at least ");
            assert!(run.stderr().starts_with(&said), "{cut}: {}", run.stderr());
            assert!(run.stderr().contains(": it was cut off"), "{}", run.stderr());
        }
    };
    thread::scope(|scope| {
        for half in cuts.chunks(500) {
            scope.spawn(move || check(half));
        }
    });
    assert_eq!(fs::read(dir.join("copy.raw")).unwrap(), b"the old one");
    assert_eq!(dir.names(), ["copy.raw", "disk.raw"]);
}

#[test]
fn a_stream_that_is_cut_tells_how_much_of_a_device_was_written_as_root() {
    root::needed();
    let dir = Dir::new("piped-cut-device");
    let disk = disk(&dir);
    let stream = stream(&dir, "");
    let target = dir.join("target.raw");
    for cut in [1_900_000, 3_000_000, stream.len() - 20] {
        fs::write(&target, vec![0xff; disk.len().next_multiple_of(4096)]).unwrap();
        let device = Loop::over(&target);
        let path = device.path().to_str().unwrap().to_owned();
        let run = feed(&dir, &format!("- {path}"), &stream[..cut]).exits(1);
        let said = run.stderr();
        let words = "the whole disk; the first ";
        assert!(
            said.contains(&format!("mkqcow2: {path}: is incomplete: ")),
            "{said}"
        );
        let number = said
            .split(words)
            .nth(1)
            .and_then(|rest| rest.split(' ').next())
            .unwrap();
        let reached: usize = number.parse().unwrap();
        drop(device);
        let found = fs::read(&target).unwrap();
        assert!(found[..reached] == disk[..reached], "{cut}");
        assert!(found[reached..].iter().all(|byte| *byte == 0xff), "{cut}");
        // All of what came but for a window or two in flight.
        let is_all = cut == stream.len() - 20;
        assert!(
            reached + (3 << 20) > cut && is_all == (reached == disk.len()),
            "{cut}: {reached}"
        );
    }
}

#[test]
fn a_stream_with_a_bit_that_is_wrong_never_restores_something_else() {
    let dir = Dir::new("piped-damage");
    let data = noise(5, 200_000);
    let path = dir.sparse("disk.raw", 3 * MIB, &[(4096, &data), (2 * MIB, &data)]);
    let disk = fs::read(path).unwrap();
    for options in ["--cluster-size 4K", "--cluster-size 4K --compat 0.10"] {
        let stream = stream(&dir, options);
        let mut dice = Dice::new(8);
        let mut refused = 0;
        for round in 0..150 {
            let mut damaged = stream.clone();
            // A third of them in the tables, a third at the end.
            let (start, length) = match round % 3 {
                0 => (0, 40_000),
                1 => (stream.len() - 5000, 5000),
                _ => (0, stream.len()),
            };
            let at = start + usize::try_from(dice.below(u64::try_from(length).unwrap())).unwrap();
            damaged[at] ^= 1 << dice.below(8);
            let run = feed(&dir, "-q - -", &damaged);
            match run.status() {
                1 => refused += 1,
                0 | 3 => assert!(run.bytes() == disk, "{options}: byte {at:#x}: {}", run.stderr()),
                status => panic!("{status}: {}", run.stderr()),
            }
        }
        assert!(refused > 60, "{options}: {refused}");
    }
}

#[test]
fn what_is_no_stream_is_refused_before_anything_is_written() {
    let dir = Dir::new("piped-others");
    disk(&dir);
    let read = |name: &str| fs::read(dir.join(name)).unwrap();
    dir.run("-q disk.raw packed.qcow2").exits(0);
    qemu::img(
        &dir,
        "convert -O qcow2 -o data_file=data.raw,data_file_raw=on disk.raw external.qcow2",
    );
    for format in ["qcow", "qed"] {
        qemu::img(&dir, &format!("convert -O {format} disk.raw disk.{format}"));
    }
    let two_pass = dir
        .run("-q -c zstd --two-pass disk.raw -")
        .exits(0)
        .bytes()
        .to_vec();
    for (bytes, why) in [
        (read("packed.qcow2"), "its L2 table at "),
        (two_pass, "its L2 table at "),
        (read("external.qcow2"), "its data lies in an external data file"),
        (read("disk.qcow"), "its format is qcow, expected qcow2"),
        (read("disk.qed"), "its format is qed, expected qcow2"),
    ] {
        let run = feed(&dir, "- copy.raw", &bytes).exits(1);
        run.says(&format!(
            "mkqcow2: standard input: cannot be restored from a pipe: {why}"
        ))
        .says("(save it to a file, and restore that)");
    }
    feed(&dir, "- copy.raw", &read("disk.raw"))
        .exits(1)
        .says("standard input: not a qcow2 image");
    feed(&dir, "- copy.raw", b"")
        .exits(1)
        .says("standard input: ends after 0 bytes");
    // Two clusters in the wrong order.
    let mut swapped = stream(&dir, "--no-checksums");
    let data = usize::try_from(first_data(&dir, &swapped)).unwrap();
    let entry = swapped
        .windows(8)
        .position(|bytes| bytes == (1 << 63 | data as u64).to_be_bytes())
        .unwrap();
    let (first, rest) = swapped[entry + 8 * 20..].split_at_mut(8);
    first.swap_with_slice(&mut rest[..8]);
    feed(&dir, "- copy.raw", &swapped)
        .exits(1)
        .says("its data is in another order than on the disk");
    for option in [
        "--used-only",
        "--keep-going",
        "--fit",
        "--part 1",
        "--snapshot one",
    ] {
        let name = option.split(' ').next().unwrap();
        feed(&dir, &format!("{option} - copy.raw"), &stream(&dir, ""))
            .exits(1)
            .says(&format!("{name} needs what lies at its end"));
    }
    assert!(!dir.join("copy.raw").exists());
}

/// Where the data of a stream begins.
fn first_data(dir: &Dir, stream: &[u8]) -> u64 {
    fs::write(dir.join("saved.qcow2"), stream).unwrap();
    let map = qemu::img(dir, "map --output json saved.qcow2");
    let map: serde_json::Value = serde_json::from_str(&map).unwrap();
    map[0]["offset"].as_u64().unwrap()
}

#[test]
fn other_images_come_back_if_their_order_allows() {
    let dir = Dir::new("piped-qemu");
    let disk = disk(&dir);
    for options in [
        "",
        "-o cluster_size=512K",
        "-o compat=0.10",
        "-o extended_l2=on",
        "-c -o compression_type=zstd",
    ] {
        let compressible = options.contains("-c");
        if compressible {
            let text: Vec<u8> = (0..4 << 20).map(|at: u32| (at / 100 % 251) as u8).collect();
            fs::write(dir.join("disk.raw"), text).unwrap();
        }
        qemu::img(
            &dir,
            &format!("convert -m 1 -O qcow2 {options} disk.raw other.qcow2"),
        );
        let image = fs::read(dir.join("other.qcow2")).unwrap();
        let run = feed(&dir, "-q - -", &image).exits(0);
        let expected = if compressible {
            fs::read(dir.join("disk.raw")).unwrap()
        } else {
            disk.clone()
        };
        assert!(run.bytes() == expected, "{options}");
    }
}

#[test]
fn a_file_on_standard_input_is_read_like_any_other() {
    let dir = Dir::new("piped-file");
    let disk = disk(&dir);
    dir.run("-q -c zstd disk.raw disk.qcow2").exits(0);
    let mut command = dir.command(["restore", "-q", "--verify", "-", "copy.raw"]);
    Run::of(command.stdin(File::open(dir.join("disk.qcow2")).unwrap())).exits(0);
    assert!(fs::read(dir.join("copy.raw")).unwrap() == disk);
    // Not from its beginning on: then it is a stream, and this one is cut in front.
    let mut file = File::open(dir.join("disk.qcow2")).unwrap();
    file.read_exact(&mut [0; 10]).unwrap();
    let mut command = dir.command(["restore", "-", "other.raw"]);
    Run::of(command.stdin(file))
        .exits(1)
        .says("standard input: not a qcow2 image");
}

#[test]
fn a_dry_run_tells_what_would_be_written() {
    let dir = Dir::new("piped-plan");
    disk(&dir);
    let stream = stream(&dir, "");
    let run = feed(&dir, "-n --json - copy.raw", &stream).exits(0);
    let plan = run.json();
    assert_eq!(plan["size"], 24 * MIB + 512);
    assert_eq!(plan["checked"], true, "{plan}");
    assert!(!dir.join("copy.raw").exists());
    // It is closed, or a terminal.
    dir.run("restore - copy.raw")
        .exits(1)
        .says("standard input: ends after 0 bytes");
}

#[test]
fn what_is_kept_of_a_stream_is_gone_when_it_is_done_and_needs_room() {
    let dir = Dir::new("piped-scratch");
    disk(&dir);
    let stream = stream(&dir, "");
    let scratch = dir.join("scratch");
    fs::create_dir(&scratch).unwrap();
    let run = |place: &str| {
        let mut command = dir.command(["restore", "-q", "-", "-"]);
        fed(
            command.env("TMPDIR", place),
            &stream,
            stream.len(),
            Duration::ZERO,
        )
    };
    run(scratch.to_str().unwrap()).exits(0);
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
    run("/nowhere")
        .exits(1)
        .says("/nowhere: cannot write tables to a scratch file");
}

#[test]
fn the_first_sector_of_the_pipe_may_come_alone() {
    let dir = Dir::new("piped-first");
    let disk = disk(&dir);
    let stream = stream(&dir, "--cluster-size 2M");
    let run = feed_in(&dir, "-q - -", &stream, 512 * 1024 - 1, Duration::from_millis(1)).exits(0);
    assert!(run.bytes() == disk);
    let mut last = [0; 512];
    File::open(dir.join("disk.raw"))
        .unwrap()
        .read_exact_at(&mut last, 24 * MIB)
        .unwrap();
    assert!(run.bytes().ends_with(&last));
}
