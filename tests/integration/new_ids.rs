//! A disk restored with new identifiers: it can stand beside the original, and nothing else of it is other.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::filesystems::lvm::made::{EXTENT, Made, START, linear, text, volume};
use crate::filesystems::partitions::disk::sfdisk;
use crate::support::loops::{Loop, Mount};
use crate::support::{Dir, Run, are_same, fill, flip, is_same, noise, peek, poke, tool};

const MIB: u64 = 1 << 20;

/// A partition: its number, where it begins and how long it is in MiB, and what makes what it holds.
struct Part {
    number: u32,
    start: u64,
    size: u64,
    make: &'static str,
    /// How it is checked, in which `{}` is the file; an error is a status other than 0.
    check: &'static str,
    is_renewed: bool,
}

const fn part(
    number: u32,
    (start, size): (u64, u64),
    make: &'static str,
    check: &'static str,
    is_renewed: bool,
) -> Part {
    Part {
        number,
        start,
        size,
        make,
        check,
        is_renewed,
    }
}

impl Part {
    /// In bytes of the disk.
    fn range(&self) -> Range<u64> {
        self.start * MIB..(self.start + self.size) * MIB
    }
}

const PLAIN: usize = 2;
const SEEDED: usize = 3;

const PARTS: [Part; 10] = [
    part(1, (1, 40), "mkfs.fat -F 32 -s 1", "fsck.fat -n", true),
    part(2, (41, 16), "mkfs.fat -F 16", "fsck.fat -n", true),
    part(
        3,
        (57, 40),
        "mkfs.ext4 -q -O ^metadata_csum,^uninit_bg -b 1024",
        "e2fsck -fn",
        true,
    ),
    part(
        4,
        (97, 40),
        "mkfs.ext4 -q -O metadata_csum,metadata_csum_seed -b 1024",
        "e2fsck -fn",
        true,
    ),
    part(
        5,
        (137, 40),
        "mkfs.ext4 -q -O metadata_csum,^metadata_csum_seed",
        "e2fsck -fn",
        false,
    ),
    part(6, (177, 20), "mkfs.ext2 -q", "e2fsck -fn", true),
    part(7, (197, 8), "mkswap -q", "swaplabel", true),
    part(8, (205, 8), "mkfs.exfat", "fsck.exfat -n", true),
    part(
        9,
        (213, 40),
        "mkfs.ext4 -q -O ^metadata_csum,uninit_bg",
        "e2fsck -fn",
        false,
    ),
    part(10, (253, 320), "mkfs.xfs -q", "xfs_repair -n -f", false),
];

/// Behind the last of them, where the metadata of LVM is.
const LVM: u64 = 573;
const SIZE: u64 = 600 * MIB;

/// A logical volume in two pieces: 3 MiB and 1 MiB of a filesystem.
const PIECES: [Range<u64>; 2] = [100..148, 10..26];

fn run(command: &str, file: &Path) -> String {
    let mut words = command.split_whitespace();
    let name = words.next().unwrap();
    tool(name, words.map(Path::new).chain([file]))
}

/// `disk.raw`, of which `image.qcow2` is an image.
fn disk(dir: &Dir) -> PathBuf {
    let parts = PARTS
        .iter()
        .map(|part| (part.start, part.size))
        .chain([(LVM, 16)]);
    let lines = parts.map(|(start, size)| format!("start={start}M,size={size}M\n"));
    let script = format!("label: gpt\n{}", lines.collect::<String>());
    let disk = dir.sparse("disk.raw", SIZE, &[]);
    sfdisk(&disk, &script);
    let file = dir.join("part.raw");
    for part in &PARTS {
        fs::File::create(&file).unwrap().set_len(part.size * MIB).unwrap();
        if part.make.contains("mkfs.ext") {
            run(&format!("{} -d {}", part.make, content(dir).display()), &file);
        } else {
            run(part.make, &file);
        }
        fill(&disk, part.start * MIB, &fs::read(&file).unwrap());
    }
    fill(&disk, LVM * MIB, &volume_group(dir));
    dir.run("-q disk.raw image.qcow2").exits(0);
    disk
}

/// A directory with two files, for an ext.
fn content(dir: &Dir) -> PathBuf {
    let content = dir.join("content");
    fs::create_dir_all(&content).unwrap();
    for (name, seed) in [("one", 5), ("two", 6)] {
        fs::write(content.join(name), noise(seed, 300_000)).unwrap();
    }
    content
}

fn volume_group(dir: &Dir) -> Vec<u8> {
    let segments = PIECES.map(|piece| linear("pv0", piece.start, piece.end - piece.start));
    let mut made = Made::new(&text(&[volume("root", &segments)]));
    let file = dir.sparse("root.raw", 4 * MIB, &[]);
    run("mkfs.ext2 -q -b 1024", &file);
    let bytes = fs::read(&file).unwrap();
    let mut rest = bytes.as_slice();
    for piece in PIECES {
        let (here, behind) = rest.split_at(((piece.end - piece.start) * EXTENT) as usize);
        made.put(START + piece.start * EXTENT, here);
        rest = behind;
    }
    made.bytes
}

/// The bytes of that logical volume.
fn logical(disk: &Path) -> Vec<u8> {
    let place = |extent: u64| LVM * MIB + START + extent * EXTENT;
    let pieces = PIECES.map(|piece| peek(disk, place(piece.start)..place(piece.end)));
    pieces.concat()
}

/// What a partition holds, in a file of its own.
fn cut(dir: &Dir, disk: &Path, part: &Part) -> PathBuf {
    let path = dir.sparse(&format!("part-{}.raw", part.number), part.size * MIB, &[]);
    fill(&path, 0, &peek(disk, part.range()));
    path
}

/// What blkid calls something: a UUID or the like, on a whole disk that of the table.
fn id(field: &str, file: &Path) -> String {
    let arguments = ["-p", "-s", field, "-o", "value"].map(Path::new);
    tool("blkid", arguments.into_iter().chain([file]))
        .trim()
        .to_owned()
}

/// The GUIDs of all partitions.
fn partition_ids(disk: &Path) -> Vec<String> {
    let dump = tool("sfdisk", [Path::new("--dump"), disk]);
    let ids = dump.lines().filter_map(|line| line.split_once("uuid="));
    ids.map(|(_, id)| id.split(',').next().unwrap().to_owned())
        .collect()
}

/// The copies of an ext's superblock, as block numbers, and the size of a block.
fn copies(file: &Path) -> (Vec<u64>, u64) {
    let dump = tool("dumpe2fs", [file]);
    let field = |line: &str, name: &str| {
        let rest = line.trim().strip_prefix(name)?;
        rest.split([',', ' ']).find(|word| !word.is_empty())?.parse().ok()
    };
    let copies = dump
        .lines()
        .filter_map(|line| field(line, "Backup superblock at"));
    let size = dump.lines().find_map(|line| field(line, "Block size:")).unwrap();
    (copies.collect(), size)
}

/// What e2fsck says of an ext by each copy of its superblock. mke2fs itself does not keep the copies of the group
/// descriptors up to date, so that a copy of the disk must be no worse.
fn checked_by_copies(part: &Part, file: &Path) -> Vec<String> {
    if !part.make.contains("mkfs.ext") {
        return Vec::new();
    }
    let check = |copy: u64| {
        let copy = copy.to_string();
        let output = Command::new("e2fsck")
            .args(["-fn", "-b", &copy])
            .arg(file)
            .output();
        let output = output.unwrap();
        format!("{:?} {}", output.status, String::from_utf8_lossy(&output.stdout))
    };
    copies(file).0.into_iter().map(check).collect()
}

/// Where bytes may differ from those of the original, by the formats' own documents.
fn may_differ(part: &Part, file: &Path) -> Vec<Range<u64>> {
    let at = |start: u64, length: u64| start..start + length;
    match part.make {
        _ if !part.is_renewed => Vec::new(),
        make if make.contains("-F 32") => vec![at(67, 4), at(6 * 512 + 67, 4)],
        make if make.contains("-F 16") => vec![at(39, 4)],
        make if make.contains("mkswap") => vec![at(1036, 16)],
        make if make.contains("exfat") => {
            vec![
                at(100, 4),
                at(11 * 512, 512),
                at(12 * 512 + 100, 4),
                at(23 * 512, 512),
            ]
        }
        make => {
            let (copies, size) = copies(file);
            let places = copies.into_iter().map(|copy| copy * size).chain([1024]);
            let checksum = if make.contains("seed") { 4 } else { 0 };
            places
                .flat_map(|place| [at(place + 0x68, 16), at(place + 0x3fc, checksum)])
                .collect()
        }
    }
}

/// Makes sure that two disks differ nowhere else.
#[track_caller]
fn assert_same_but(one: &Path, other: &Path, mut places: Vec<Range<u64>>) {
    let [length, same] = [one, other].map(|disk| fs::metadata(disk).unwrap().len());
    assert_eq!(length, same);
    places.sort_by_key(|place| place.start);
    let mut at = 0;
    for place in places.into_iter().chain(std::iter::once(length..length)) {
        let range = at.min(place.start)..place.start;
        assert!(is_same(one, other, range.clone()), "{range:x?}");
        at = place.end;
    }
}

#[test]
fn a_copy_has_new_identifiers_and_else_the_same_bytes() {
    let dir = Dir::new("new-ids");
    let disk = disk(&dir);
    let run = dir
        .run("restore --new-ids --verify --json image.qcow2 copy.raw")
        .exits(0);
    let report = run.json();
    dir.run("restore -q image.qcow2 plain.raw").exits(0);
    let (plain, copy) = (dir.join("plain.raw"), dir.join("copy.raw"));

    let verified = tool("sgdisk", [Path::new("-v"), &copy]);
    assert!(verified.contains("No problems found"), "{verified}");
    tool("sfdisk", [Path::new("--verify"), &copy]);
    assert_ne!(id("PTUUID", &disk), id("PTUUID", &copy));
    let ids = [&disk, &copy].map(|disk| partition_ids(disk));
    let all: BTreeSet<_> = ids.iter().flatten().collect();
    assert_eq!(all.len(), 22, "{ids:?}");

    let mut places = vec![512..34 * 512, SIZE - 33 * 512..SIZE];
    let mut told = Vec::new();
    for part in &PARTS {
        let file = cut(&dir, &disk, part);
        let (old, by_copies) = (id("UUID", &file), checked_by_copies(part, &file));
        let file = cut(&dir, &copy, part);
        let new = id("UUID", &file);
        assert_eq!(old != new, part.is_renewed, "{}", part.make);
        self::run(part.check, &file);
        if part.is_renewed {
            told.push((format!("partition {}", part.number), old, new));
        }
        assert_eq!(by_copies, checked_by_copies(part, &file), "{}", part.make);
        if part.make.contains("mkfs.ext") {
            let (bytes, (copies, size)) = (fs::read(&file).unwrap(), copies(&file));
            for copy in copies {
                let uuid = |superblock: u64| &bytes[superblock as usize + 0x68..][..16];
                assert_eq!(uuid(copy * size), uuid(1024), "{copy}");
            }
        }
        let shift = |place: Range<u64>| place.start + part.start * MIB..place.end + part.start * MIB;
        places.extend(may_differ(part, &file).into_iter().map(shift));
    }
    let volumes = [&disk, &copy].map(|disk| {
        fs::write(dir.join("root.raw"), logical(disk)).unwrap();
        self::run("e2fsck -fn", &dir.join("root.raw"));
        id("UUID", &dir.join("root.raw"))
    });
    assert_ne!(volumes[0], volumes[1]);
    told.push((
        "logical volume vg/root".to_owned(),
        volumes[0].clone(),
        volumes[1].clone(),
    ));
    let extents = PIECES.map(|piece| piece.start * EXTENT..piece.end * EXTENT);
    let in_group = extents.map(|range| range.start + LVM * MIB + START..range.end + LVM * MIB + START);
    places.extend(in_group);
    assert_same_but(&plain, &copy, places);

    let of_report = report["new-ids"].as_array().unwrap();
    for (place, old, new) in told {
        let found = of_report
            .iter()
            .any(|id| id["where"] == *place && id["old"] == *old && id["new"] == *new);
        assert!(found, "{place} {old} {new}: {report}");
    }
    assert!(
        of_report
            .iter()
            .any(|new| new["what"] == "GPT disk GUID" && new["new"] == *id("PTUUID", &copy))
    );
}

#[test]
fn what_keeps_its_identifiers_is_told_with_the_command_that_changes_them() {
    let dir = Dir::new("new-ids-kept");
    disk(&dir);
    let plan = dir.run("restore -n --new-ids image.qcow2 copy.raw").exits(0);
    assert!(!dir.join("copy.raw").exists());
    let told = dir.run("restore --new-ids image.qcow2 copy.raw").exits(0);
    for run in [&plan, &told] {
        let said = run.stdout();
        for words in [
            "copy.raw: partition 5: ext4 keeps its identifiers: all of its checksums depend on its UUID",
            "(e2fsck -f DEVICE && tune2fs -U random DEVICE)\n",
            "copy.raw: partition 9: ext4 keeps its identifiers: the checksums of its group descriptors",
            "copy.raw: partition 10: XFS keeps its identifiers: ",
            "(xfs_admin -U generate DEVICE)\n",
            "copy.raw: partition 11: LVM2 keeps its identifiers: ",
            "(vgimportclone DEVICE)\n",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert_eq!(said.matches(" keeps its identifiers: ").count(), 4, "{said}");
    }
    assert!(plan.stdout().contains(" becomes a new one\n"));
    let plan = dir
        .run("restore -n --json --new-ids image.qcow2 other.raw")
        .exits(0)
        .json();
    assert!(
        plan["new-ids"]
            .as_array()
            .unwrap()
            .iter()
            .all(|id| id["new"].is_null())
    );
    assert_eq!(
        plan["kept"][0]["command"],
        "e2fsck -f DEVICE && tune2fs -U random DEVICE"
    );
    // Without the option nothing is looked for.
    let plain = dir.run("restore --json image.qcow2 other.raw").exits(0).json();
    assert!(plain["new-ids"].is_null() && plain["kept"].is_null());

    // Each run draws its own.
    let first = id("PTUUID", &dir.join("copy.raw"));
    dir.run("restore -q --new-ids image.qcow2 copy.raw")
        .exits(0)
        .in_silence();
    assert_ne!(id("PTUUID", &dir.join("copy.raw")), first);

    // One partition: a file that has only its own.
    let part = dir
        .run("restore --json --new-ids --part 3 image.qcow2 part.raw")
        .exits(0)
        .json();
    assert_eq!(part["new-ids"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&part["kept"], &part["new-ids"][0]["where"]),
        (&serde_json::json!([]), &"partition 3".into())
    );
    let file = dir.join("part.raw");
    assert_eq!(part["new-ids"][0]["new"], *id("UUID", &file));
    run("e2fsck -fn", &file);
    let part = dir
        .run("restore --json --new-ids --part vg/root image.qcow2 part.raw")
        .exits(0)
        .json();
    assert_eq!(part["new-ids"][0]["new"], *id("UUID", &file));
    run("e2fsck -fn", &file);
}

#[test]
fn what_is_in_doubt_keeps_its_identifiers() {
    let dir = Dir::new("new-ids-doubt");
    let (sound, path, copy) = (dir.join("sound.raw"), disk(&dir), dir.join("copy.raw"));
    fs::rename(&path, &sound).unwrap();
    let plain = PARTS[PLAIN].start * MIB;
    let backup = plain + 8193 * 1024;
    let kept = |what: &str, place: &str, why: &str, change: &dyn Fn()| {
        tool("cp", [Path::new("--sparse=always"), &sound, &path]);
        change();
        dir.run("-q disk.raw image.qcow2");
        dir.run("restore --new-ids image.qcow2 copy.raw")
            .exits(0)
            .prints(&format!("copy.raw: {place}: {what} keeps its identifiers: {why}"));
        assert_eq!(fs::metadata(&copy).unwrap().len(), SIZE);
    };
    let header = |disk| peek(disk, 512..1024);
    for (why, change) in [
        (
            "a copy of its superblock is damaged",
            &(|| flip(&path, backup + 0x68, 1)) as &dyn Fn(),
        ),
        ("a copy of its superblock is damaged", &|| {
            poke(&path, backup + 0x38, &[0, 0]);
        }),
        // The feature, and nothing in the journal.
        ("its journal needs recovery", &|| {
            flip(&path, plain + 1024 + 0x60, 4);
        }),
        ("it has deleted files to clean up", &|| {
            poke(&path, plain + 1024 + 0xe8, &[13, 0, 0, 0]);
        }),
        ("the keys of its encrypted files", &|| {
            flip(&path, plain + 1024 + 0x5d, 8);
        }),
    ] {
        kept("ext4", "partition 3", why, change);
        assert!(is_same(&path, &copy, PARTS[PLAIN].range()), "{why}");
        assert!(header(&path) != header(&copy), "{why}");
    }
    kept("ext2/3/4", "partition 4", "superblock at ", &|| {
        flip(&path, PARTS[SEEDED].start * MIB + 1024 + 0x70, 1);
    });
    kept(
        "FAT32",
        "partition 1",
        "its boot sector and its backup differ",
        &|| {
            flip(&path, MIB + 6 * 512 + 67, 1);
        },
    );
    // A damaged table leaves all of the disk as it is.
    kept("GPT", "disk", "the backup GPT at ", &|| {
        flip(&path, SIZE - 512 + 56, 1);
    });
    let assert_plain = || {
        dir.run("restore -q image.qcow2 plain.raw").exits(0);
        assert!(are_same(&dir.join("plain.raw"), &copy));
    };
    assert_plain();
    assert!(header(&path) == header(&copy));
    let why = "the partition table of the disk is damaged";
    kept("ext4", "partition 3", why, &|| flip(&path, 512 + 56, 1));
    assert_plain();
}

#[test]
fn damage_in_the_image_is_not_written_over() {
    let dir = Dir::new("new-ids-damaged");
    disk(&dir);
    // The cluster with the superblock of partition 3, and then that with the primary GPT.
    let image = fs::read(dir.join("image.qcow2")).unwrap();
    let disk = dir.join("disk.raw");
    let place = |at: u64| {
        let cluster = peek(&disk, at..at + (1 << 16));
        let found = image.chunks(1 << 16).position(|there| there == cluster);
        (found.expect("stored as it is") << 16) as u64
    };
    let damage = |at: u64, byte: u64, expected: &str, whole: bool| {
        fs::write(dir.join("image.qcow2"), &image).unwrap();
        flip(&dir.join("image.qcow2"), place(at) + byte, 1);
        dir.run("restore --new-ids image.qcow2 copy.raw").exits(1);
        let run = dir
            .run("restore --keep-going --new-ids image.qcow2 copy.raw")
            .exits(3);
        let said = run.stdout();
        assert!(said.contains(expected), "{said}");
        assert_eq!(said.contains(" becomes "), !whole, "{said}");
    };
    let plain = PARTS[PLAIN].start * MIB;
    damage(
        plain,
        1024 + 0x78,
        "copy.raw: partition 3: ext4 keeps its identifiers: it is damaged in the image",
        false,
    );
    // The code of the MBR: nothing else tells that it is not as it was.
    damage(
        0,
        100,
        "copy.raw: disk: GPT keeps its identifiers: it is damaged in the image",
        true,
    );
}

#[test]
fn a_stream_gets_no_new_identifiers() {
    let dir = Dir::new("new-ids-stream");
    dir.sparse("disk.raw", MIB, &[(0, &noise(1, 4096))]);
    dir.run("-q disk.raw image.qcow2").exits(0);
    dir.run("restore --new-ids image.qcow2 -")
        .exits(64)
        .says("--new-ids writes to TARGET once more at the end");
    dir.run("restore --new-ids --offset 512 image.qcow2 new.raw")
        .exits(64);
    let mut piped = dir.command(["restore", "--new-ids", "-", "new.raw"]);
    let mut image = Command::new("cat")
        .arg(dir.join("image.qcow2"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    Run::of(piped.stdin(image.stdout.take().unwrap()))
        .exits(1)
        .says("--new-ids needs what lies at its end");
    // It holds the pipe open for reading.
    drop(piped);
    image.wait().unwrap();
    assert!(!dir.join("new.raw").exists());
}

#[test]
fn the_number_of_an_mbr_is_new_unless_there_is_none() {
    let dir = Dir::new("new-ids-mbr");
    let disk = dir.sparse("disk.raw", 32 * MIB, &[(MIB, &noise(1, 4 << 20))]);
    sfdisk(
        &disk,
        "label: dos\nstart=1M,size=4M\nstart=6M,size=20M,type=5\nstart=8M,size=8M\n",
    );
    for old in [[0x78, 0x56, 0x34, 0x12], [0; 4]] {
        poke(&disk, 440, &old);
        dir.run("-q disk.raw image.qcow2").exits(0);
        dir.run("restore -q --new-ids image.qcow2 copy.raw").exits(0);
        let copy = dir.join("copy.raw");
        assert_same_but(&disk, &copy, vec![440..442, 442..444]);
        assert_eq!(peek(&disk, 440..444) == peek(&copy, 440..444), old == [0; 4]);
        tool("sfdisk", [Path::new("--verify"), &copy]);
    }
}

/// The hashes of all files under a directory.
fn hashes(point: &Path) -> String {
    let script = "find . -type f | sort | xargs sha256sum";
    let output = Command::new("sh")
        .args(["-c", script])
        .current_dir(point)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_copy_is_mounted_beside_its_original_as_root() {
    let dir = Dir::new("new-ids-mounted");
    let disk = disk(&dir);
    let path = dir.join("device.raw");
    fs::write(&path, vec![0xff; (SIZE + 40 * MIB) as usize]).unwrap();
    let device = Loop::over(&path);
    // Larger: the table is made to fit first.
    dir.run(&format!(
        "restore --fit --new-ids image.qcow2 {}",
        device.path().display()
    ))
    .exits(0)
    .prints("GPT made to fit");
    let verified = tool("sgdisk", [Path::new("-v"), device.path()]);
    assert!(verified.contains("No problems found"), "{verified}");
    tool("sfdisk", [Path::new("--verify"), device.path()]);
    assert_ne!(id("PTUUID", &disk), id("PTUUID", device.path()));
    let ids = [disk.as_path(), device.path()].map(partition_ids);
    assert_eq!(ids.iter().flatten().collect::<BTreeSet<_>>().len(), 22, "{ids:?}");
    for number in [PLAIN, SEEDED] {
        let part = &PARTS[number];
        let volume = |below: &Path| Loop::part(below, part.start * MIB, part.size * MIB);
        let (old, new) = (volume(&disk), volume(&path));
        assert_ne!(id("UUID", old.path()), id("UUID", new.path()));
        let mounts =
            [(&old, "old"), (&new, "new")].map(|(from, to)| Mount::new("rw", from.path(), dir.join(to)));
        let found = mounts.each_ref().map(|mount| hashes(mount.point()));
        assert_eq!(found[0], found[1]);
        assert_eq!(found[0].lines().count(), 2, "{}", found[0]);
        fs::write(mounts[1].join("three"), noise(7, 100_000)).unwrap();
        drop(mounts);
        run("e2fsck -fn", new.path());
    }
}

#[test]
fn a_disk_of_large_sectors_gets_new_identifiers_as_root() {
    let dir = Dir::new("new-ids-4096");
    let path = dir.sparse("disk.raw", 64 * MIB, &[]);
    let source = Loop::with_sectors(&path, 4096);
    sfdisk(source.path(), "label: gpt\nstart=1M,size=4M\nstart=5M,size=40M\n");
    let part = Loop::part(source.path(), 5 * MIB, 40 * MIB);
    run("mkfs.ext4 -q -O ^metadata_csum,^uninit_bg -b 4096", part.path());
    drop(part);
    dir.run(&format!("-q {} image.qcow2", source.path().display()))
        .exits(0);
    let target = dir.join("device.raw");
    fs::write(&target, vec![0xff; 64 << 20]).unwrap();
    let target = Loop::with_sectors(&target, 4096);
    dir.run(&format!(
        "restore -q --new-ids image.qcow2 {}",
        target.path().display()
    ))
    .exits(0);
    let verified = tool("sgdisk", [Path::new("-v"), target.path()]);
    assert!(verified.contains("No problems found"), "{verified}");
    let ids = [&source, &target].map(|device| partition_ids(device.path()));
    assert_eq!(ids.iter().flatten().collect::<BTreeSet<_>>().len(), 4, "{ids:?}");
    let parts = [&source, &target].map(|device| Loop::part(device.path(), 5 * MIB, 40 * MIB));
    assert_ne!(id("UUID", parts[0].path()), id("UUID", parts[1].path()));
    run("e2fsck -fn", parts[1].path());
}
