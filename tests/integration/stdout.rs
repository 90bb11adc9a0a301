//! Images that go to standard output: what a receiver gets, in whatever way it gets it, and how it can tell that it
//! did not get all of it.

mod trouble;
mod two_pass;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::disk::Disk;
use crate::format::Format;
use crate::naive;
use crate::support::{Dir, EPOCH, MKQCOW2, Run, assert_equals, noise};

const MIB: u64 = 1 << 20;

/// Images a file to standard output, which is a pipe.
#[track_caller]
pub fn stream(dir: &Dir, options: &str) -> Run {
    dir.run(&format!("{options} disk.raw -"))
}

/// The clusters that a disk has in use, as a plan tells it of the file that holds it.
pub fn in_use(dir: &Dir, format: Format) -> BTreeSet<u64> {
    let plan = dir.run(&format!("-n --json {format} disk.raw plan.qcow2")).json();
    let ranges = plan["ranges"].as_array().unwrap().iter();
    let clusters = ranges.filter(|range| range["state"] == "data").flat_map(|range| {
        let (start, length) = (range["start"].as_u64(), range["length"].as_u64());
        let end = start.unwrap() + length.unwrap();
        start.unwrap() / format.cluster_size..end.div_ceil(format.cluster_size)
    });
    clusters.collect()
}

/// Streams a disk, and holds what came out to all there is to hold it to: other people's tools, the naive reader,
/// what was written, and what the dry run predicted.
fn image(dir: &Dir, format: Format, disk: &Disk) -> naive::Image {
    let raw = disk.file(dir, "disk.raw");
    let run = stream(dir, &format!("-j 1 {format}")).exits(0);
    assert!(
        run.stderr().starts_with("mkqcow2: standard output: "),
        "{}",
        run.stderr()
    );
    assert_eq!(run.stderr().lines().count(), 1, "{}", run.stderr());
    let path = dir.join("disk.qcow2");
    fs::write(&path, run.bytes()).unwrap();
    stream(dir, &format!("-n {format}")).exits(0).says(&format!(
        "standard output: a stream of {} bytes (",
        run.bytes().len()
    ));
    for threads in [2, 7] {
        let again = stream(dir, &format!("-q -j {threads} {format}")).exits(0);
        assert!(
            again.bytes() == run.bytes(),
            "{format}: other bytes with {threads} threads"
        );
        assert_eq!(again.stderr(), "");
    }
    assert_equals(&raw, &path);
    let image = naive::Image::read_stream(&path);
    image.assert_streams(disk, &in_use(dir, format));
    image.assert_format(format, true);
    dir.run("verify -q disk.qcow2").exits(0).in_silence();
    dir.run("check disk.qcow2").exits(0);
    dir.run("compare -q disk.qcow2 disk.raw").exits(0).in_silence();
    fs::remove_file(raw).unwrap();
    fs::remove_file(path).unwrap();
    image
}

/// Cluster sizes at both ends and between them, in both versions.
fn formats() -> impl Iterator<Item = Format> {
    [512, 4096, 64 << 10, 2 << 20].into_iter().flat_map(Format::both)
}

#[test]
fn a_stream_of_a_hole_maps_nothing() {
    let dir = Dir::new("stdout-hole");
    for format in formats() {
        for size in [512, format.cluster_size * 70] {
            let image = image(&dir, format, &Disk::hole(size));

            assert_eq!((image.l2_tables(), image.data().count()), (0, 0), "{format}");
        }
    }
}

#[test]
fn zeros_that_were_written_are_data_like_any_other() {
    let dir = Dir::new("stdout-zeros");
    for format in formats() {
        let size = (format.cluster_size * 3).max(64 << 10);

        let image = image(&dir, format, &Disk::hole(size).zeros(0..size));

        let clusters = size / format.cluster_size;
        assert_eq!(image.data().count() as u64, clusters, "{format}");
    }
}

#[test]
fn a_disk_may_have_any_length() {
    let dir = Dir::new("stdout-odd");
    for format in formats() {
        let full = format.cluster_size * 3;
        for size in [1, 512, 513, full - 1, full, full + 700] {
            image(
                &dir,
                format,
                &Disk::hole(size).data(size.saturating_sub(600)..size),
            );
        }
    }
}

#[test]
fn holes_zeros_and_data_may_alternate_in_a_stream() {
    let dir = Dir::new("stdout-patterns");
    for format in formats() {
        image(&dir, format, &Disk::alternating(format.cluster_size.max(4096)));
    }
}

#[test]
fn a_stream_may_need_many_l2_tables() {
    let dir = Dir::new("stdout-tables");
    for format in formats() {
        let (cluster, reach) = (format.cluster_size, format.l2_reach());
        // Runs that go from one table to the next, and tables that nothing needs.
        let tables = if cluster < 64 << 10 { 600 } else { 4 };
        // The largest file that ext4 can hold.
        let tables = tables.min((16 << 40) / reach - 1);
        let disk =
            (0..tables)
                .filter(|table| table % 5 != 3)
                .fold(Disk::hole(reach * tables), |disk, table| {
                    let end = (table + 1) * reach;
                    disk.data(end - cluster - 1..(end + cluster).min(reach * tables))
                        .data(table * reach + cluster * 9..table * reach + cluster * 9 + 1)
                });

        image(&dir, format, &disk);
    }
}

#[test]
fn the_tables_of_a_stream_are_written_in_pieces() {
    let dir = Dir::new("stdout-pieces");
    // 1 MiB of tables and more in front of the data: 2049 of 512 bytes, 257 of 4K.
    for format in [512, 4096].into_iter().flat_map(Format::both) {
        let tables = MIB / format.cluster_size + 1;
        let disk = (0..tables).fold(Disk::hole(format.l2_reach() * tables), |disk, table| {
            disk.data(table * format.l2_reach()..table * format.l2_reach() + 1)
        });

        let image = image(&dir, format, &disk);

        assert_eq!(image.l2_tables() as u64, tables, "{format}");
    }
}

#[test]
fn the_refcounts_of_a_stream_are_right_wherever_it_ends() {
    let dir = Dir::new("stdout-refcounts");
    for format in Format::both(512) {
        // 256 and 512 clusters in all, and some before and behind; then a table of more than one cluster, and
        // more than a piece of blocks.
        for clusters in (240..256).step_by(8).chain([496, 504, 18 << 11, 520 << 10]) {
            let size = clusters * format.cluster_size;
            image(&dir, format, &Disk::hole(size).data(0..size));
        }
    }
}

#[test]
fn a_run_of_checksums_is_cut_in_a_stream_too() {
    let dir = Dir::new("stdout-runs");
    for format in Format::both(512) {
        let size = format.cluster_size * (8192 + 8);
        image(&dir, format, &Disk::hole(size).data(0..size));
    }
}

#[test]
fn a_stream_of_a_tebibyte_is_no_larger_than_what_it_holds() {
    let dir = Dir::new("stdout-1t");
    for format in [4096, 64 << 10].into_iter().flat_map(Format::both) {
        let size = 1 << 40;
        let disk = (0..200).fold(Disk::hole(size).data(size - 1..size), |disk, piece| {
            let at = (piece * 5_497_558_139) & !4095;
            disk.data(at..at + 3 * 4096)
        });

        let image = image(&dir, format, &disk);

        assert!(image.length() < 40 * MIB, "{format}: {} bytes", image.length());
    }
}

#[test]
fn without_checksums_a_stream_has_no_trace_of_them() {
    let dir = Dir::new("stdout-no-checksums");
    let disk = Disk::hole(MIB).data(0..300_000).zeros(400_000..500_000);
    let raw = disk.file(&dir, "disk.raw");
    for format in formats() {
        let run = stream(&dir, &format!("-q --no-checksums {format}")).exits(0);
        fs::write(dir.join("disk.qcow2"), run.bytes()).unwrap();

        let image = naive::Image::read_stream(&dir.join("disk.qcow2"));
        assert!(!image.has_checksums(), "{format}");
        image.assert_streams(&disk, &in_use(&dir, format));
        assert_equals(&raw, &dir.join("disk.qcow2"));
    }
}

#[test]
fn a_part_of_a_disk_is_streamed_alone() {
    let dir = Dir::new("stdout-part");
    let bytes = noise(1, 100_000);
    dir.sparse("disk.raw", 100_000, &[(0, &bytes)]);
    let part = Disk::hole(49_664).bytes(0, bytes[50_176..99_840].to_vec());
    let run = stream(&dir, "-q --offset 50176 --length 49664").exits(0);
    fs::write(dir.join("part.qcow2"), run.bytes()).unwrap();
    assert_equals(&part.file(&dir, "part.raw"), &dir.join("part.qcow2"));
}

/// A disk of some data and holes, in a file.
fn some_disk(dir: &Dir) -> Disk {
    let disk = Disk::hole(8 * MIB)
        .data(100_000..2_000_000)
        .zeros(3 * MIB..4 * MIB)
        .data(7 * MIB..8 * MIB);
    disk.file(dir, "disk.raw");
    disk
}

/// Runs a script of the shell in the directory.
#[track_caller]
fn shell(dir: &Dir, script: &str) -> std::process::Output {
    let mut shell = Command::new("bash");
    let shell = shell
        .args(["-c", script])
        .env("MKQCOW2", MKQCOW2)
        .env(EPOCH.0, EPOCH.1);
    shell.current_dir(dir.path()).output().unwrap()
}

#[test]
fn standard_output_may_be_a_file() {
    let dir = Dir::new("stdout-file");
    some_disk(&dir);
    let piped = stream(&dir, "-q").exits(0);
    for options in ["", "--no-sync", "--no-clobber"] {
        let script = format!(
            "set -e; $MKQCOW2 -q {options} disk.raw - > new.qcow2; rm -f at.qcow2; \
             $MKQCOW2 -q {options} disk.raw - >> at.qcow2; \
             ($MKQCOW2 -q {options} disk.raw -; printf behind) > behind.qcow2"
        );
        let output = shell(&dir, &script);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");

        assert!(fs::read(dir.join("new.qcow2")).unwrap() == piped.bytes());
        assert!(fs::read(dir.join("at.qcow2")).unwrap() == piped.bytes());
        assert!(fs::read(dir.join("behind.qcow2")).unwrap() == [piped.bytes(), b"behind"].concat());
    }
    assert_equals(&dir.join("disk.raw"), &dir.join("new.qcow2"));
}

#[test]
fn a_receiver_gets_it_as_the_manual_says() {
    let dir = Dir::new("stdout-receiver");
    some_disk(&dir);
    let script = "set -eo pipefail
        receive() { cat > backup.qcow2.part && \"$MKQCOW2\" verify -q backup.qcow2.part && mv backup.qcow2.part backup.qcow2; }
        \"$MKQCOW2\" -q disk.raw - | receive
        \"$MKQCOW2\" check backup.qcow2";
    let output = shell(&dir, script);
    assert!(output.status.success(), "{output:?}");
    dir.run("compare -q disk.raw backup.qcow2").exits(0);
    assert_equals(&dir.join("disk.raw"), &dir.join("backup.qcow2"));
}

#[test]
fn a_pipe_that_does_not_wait_gets_every_byte() {
    let dir = Dir::new("stdout-nonblocking");
    some_disk(&dir);
    let expected = stream(&dir, "-q").exits(0);
    let (mut reader, writer) = std::io::pipe().unwrap();
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK).unwrap();
    let mut command = dir.command(["-q", "disk.raw", "-"]);
    let mut child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    // Or the pipe stays open here.
    drop(command);
    let mut found = Vec::new();
    reader.read_to_end(&mut found).unwrap();

    assert!(child.wait().unwrap().success());
    assert!(found == expected.bytes());
}

#[test]
fn what_is_said_goes_to_standard_error() {
    let dir = Dir::new("stdout-said");
    some_disk(&dir);
    let expected = stream(&dir, "-q").exits(0);

    let run = stream(&dir, "-v").exits(0);
    assert!(run.bytes() == expected.bytes());
    run.says("disk.raw: regular file, 8388608 bytes (8.00 MiB): ")
        .says("\nstandard output: a stream of ")
        .says("\nmkqcow2: standard output: 8.00 MiB source (")
        .says("\nmkqcow2: clusters of 65536 bytes with data: ");
    let run = stream(&dir, "-p").exits(0);
    assert!(run.bytes() == expected.bytes());
    let plan = stream(&dir, "-n").exits(0);
    assert!(plan.stdout().is_empty() && plan.stderr().starts_with("disk.raw: regular file"));
    assert!(
        !plan.stderr().contains("less if") && !plan.stderr().contains("may not fit"),
        "{}",
        plan.stderr()
    );
}

/// Where a stream is cut: at both ends, around all boundaries there are, and in between.
fn cuts(length: usize) -> BTreeSet<usize> {
    let near = [
        0, 1, 2, 100, 511, 512, 513, 4095, 4096, 4097, 65_535, 65_536, 65_537,
    ];
    let behind = near.iter().map(|at| at + 1);
    let spread = (0..length).step_by(length / 40);
    near.into_iter()
        .chain(behind.filter_map(|back| length.checked_sub(back)))
        .chain(spread)
        .filter(|at| *at < length)
        .collect()
}

#[test]
fn a_stream_that_did_not_arrive_to_the_end_is_found_out_wherever_it_was_cut() {
    let dir = Dir::new("stdout-cut");
    let disks = [
        Disk::hole(2 * MIB),
        Disk::hole(2 * MIB).data(4096..300_000).data(900_000..900_100),
        Disk::hole(2 * MIB).data(0..1000).zeros(300_000..500_000),
    ];
    for (disk, format) in disks
        .iter()
        .flat_map(|disk| formats().map(move |format| (disk, format)))
    {
        for options in ["", "--no-checksums"] {
            disk.file(&dir, "disk.raw");
            let run = stream(&dir, &format!("-q {options} {format}")).exits(0);
            let bytes = run.bytes();
            for length in cuts(bytes.len()) {
                fs::write(dir.join("cut.qcow2"), &bytes[..length]).unwrap();
                let run = dir.run("verify -q cut.qcow2");
                assert!(
                    !run.stderr().is_empty() || !run.stdout().is_empty(),
                    "{format} {options}: {length} of {} bytes",
                    bytes.len()
                );
                // What cannot even be opened is status 1.
                let status = if length < 104 { 1..=2 } else { 2..=2 };
                assert!(
                    status.contains(&run.status()),
                    "{format} {options}: {length}: {run:?}"
                );
            }
        }
    }
}

#[test]
fn an_image_that_lost_some_of_its_padding_is_told_from_one_that_others_changed() {
    let dir = Dir::new("stdout-padding");
    some_disk(&dir);
    let run = stream(&dir, "-q").exits(0);
    let path = dir.join("disk.qcow2");
    fs::write(&path, &run.bytes()[..run.bytes().len() - 1]).unwrap();
    dir.run("verify disk.qcow2")
        .exits(2)
        .prints("footer at 0x")
        .prints(" is cut off by the end of the file, 0x");
    // No data is lost by it.
    dir.run("restore -q --no-sync disk.qcow2 copy.raw").exits(0);

    let mut file = File::options().append(true).open(&path).unwrap();
    file.write_all(b"more").unwrap();
    dir.run("verify -q disk.qcow2").exits(0);
}
