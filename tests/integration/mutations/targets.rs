//! What is done with bytes that may be anything. None of it may panic, or take more than its share of time or
//! memory; what it gives back must hold what its documentation promises.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::OnceLock;

use mkqcow2::disk::Disk;
use mkqcow2::formats::qcow2::structures::extensions::Extensions;
use mkqcow2::formats::qcow2::structures::geometry::{ClusterSize, Geometry, L2Form};
use mkqcow2::formats::qcow2::structures::header::{Compat, Header};
use mkqcow2::formats::qcow2::structures::mapping::{self, L2Rules, Mapping};
use mkqcow2::formats::qcow2::structures::refcount::{self, Width};
use mkqcow2::formats::qcow2::structures::snapshot::{self, RawSnapshot, Snapshot};
use mkqcow2::formats::qcow2::{Image, View};
use mkqcow2::formats::{Access, AnyDisk, Chain, Format, Opening, Password};
use mkqcow2::units::GuestOffset;
use zerocopy::FromBytes;

/// How many runs of a disk are looked at: a disk has up to 2 EiB.
const MAX_RUNS: usize = 2000;

/// How many bytes of a run are read.
const MAX_PIECE: u64 = 64 << 10;

/// QEMU's limits for the L1 table and the refcount table, in bytes.
const MAX_L1: u64 = 32 << 20;
const MAX_REFCOUNT_TABLE: u64 = 8 << 20;

/// The beginning of an image: header and extensions.
pub fn header(bytes: &[u8]) {
    let Ok(header) = Header::parse(bytes) else {
        return;
    };
    let geometry = header.geometry();
    let cluster_size = geometry.cluster_size();
    assert!(cluster_size.is_power_of_two() && (512..=2 << 20).contains(&cluster_size));
    assert!(header.l1().entries * 8 <= MAX_L1);
    assert!(geometry.l1_entries() <= header.l1().entries);
    assert!(header.refcount_table().entries * 8 <= MAX_REFCOUNT_TABLE);
    for table in [header.l1(), header.refcount_table(), header.snapshots()] {
        assert!(table.at.0.is_multiple_of(cluster_size));
    }
    assert!(header.extensions_at().0 <= cluster_size);
    let name = header.backing_name().unwrap_or(cluster_size..cluster_size);
    assert!(name.end <= cluster_size && name.end - name.start <= 1023);

    let mut first_cluster = bytes.to_vec();
    first_cluster.resize(cluster_size as usize, 0);
    let Ok(extensions) = Extensions::parse(&first_cluster, header.extensions_at(), name.start) else {
        return;
    };
    for extension in &extensions.all {
        assert!(extension.at.0 + 8 + extension.length <= cluster_size);
    }
}

/// Entries of tables. The first byte tells the kind of image that they are in.
pub fn tables(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let bits = 9 + u32::from(kind & 15) % 13;
    let form = if kind & 16 != 0 && bits >= 14 {
        L2Form::Extended
    } else {
        L2Form::Standard
    };
    let cluster = ClusterSize::from_bits(bits).expect("9 to 21");
    let geometry = Geometry::of_image(cluster, 1 << 30, form).expect("1 GiB is allowed");
    let rules = L2Rules {
        geometry,
        compat: if kind & 32 == 0 {
            Compat::V0_10
        } else {
            Compat::V1_1
        },
        data_file: kind & 64 != 0,
    };
    let is_aligned = |at: u64| at.is_multiple_of(geometry.cluster_size());
    for pair in bytes.chunks_exact(16) {
        let [entry, bitmap] =
            [0, 8].map(|at| u64::from_be_bytes(pair[at..at + 8].try_into().expect("8 bytes")));
        if let Ok(Some(table)) = mapping::l1_entry(entry, geometry) {
            assert!(is_aligned(table.0) && table.0 > 0);
        }
        if let Ok(Some(block)) = refcount::block_at(entry, geometry) {
            assert!(is_aligned(block.0) && block.0 > 0);
        }
        for subcluster in 0..if form == L2Form::Extended { 32 } else { 1 } {
            match rules.decode(entry, bitmap, subcluster) {
                Ok(Mapping::Data(at) | Mapping::ZeroAllocated(at)) => {
                    let within = u64::from(subcluster) * geometry.subcluster_size();
                    assert!(is_aligned(at.0 - within) && at.0 < 1 << 56);
                }
                Ok(Mapping::Compressed(stream)) => {
                    assert!(stream.length <= 2 * geometry.cluster_size() && stream.at.0 < 1 << 61);
                }
                Ok(Mapping::Unallocated | Mapping::Zero) | Err(_) => {}
            }
        }
    }
    for order in 0..=7 {
        let Some(width) = Width::from_order(order) else {
            continue;
        };
        let counts = (bytes.len() * 8) >> order;
        for index in (0..counts).take(64).chain(counts.saturating_sub(1)..counts + 2) {
            assert!(width.get(bytes, index) <= width.largest());
        }
    }
    if let Ok((raw, rest)) = RawSnapshot::read_from_prefix(bytes) {
        let snapshot = Snapshot::new(&raw, rest);
        assert!(snapshot.name.len() <= 3 * rest.len());
        assert!(snapshot::entry_length(&raw) >= 40);
    }
}

/// A whole image, in memory: opened, listed, and read as far as that is a matter of moments.
pub fn image(bytes: &[u8]) {
    in_memory(bytes, image_at);
}

/// A whole image of QCOW version 1, in memory: opened, and read as far as that is a matter of moments.
pub fn qcow(bytes: &[u8]) {
    in_memory(bytes, |path| other(path, Format::Qcow));
}

/// The same of QED.
pub fn qed(bytes: &[u8]) {
    in_memory(bytes, |path| other(path, Format::Qed));
}

/// The sections of a record, whose head and checksum are right.
pub fn record(sections: &[u8]) {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    let image = IMAGE.get_or_init(image_of_a_hole);
    let at = image.windows(8).position(|bytes| bytes == b"mkqrecrd");
    let mut bytes = image[..at.expect("an image of ours has a record")].to_vec();
    let start = bytes.len();
    bytes.extend(&image[start..start + 24]);
    bytes.extend((sections.len() as u64).to_be_bytes());
    bytes.extend(sections);
    let crc = crc32fast::hash(&bytes[start..]);
    bytes.extend(crc.to_be_bytes());
    in_memory(&bytes, |path| {
        let image = Image::open(path).expect("its header is right");
        let Ok(record) = image.record() else { return };
        let record = record.expect("there is one");
        let size = image.header().geometry().size();
        assert!(record.free_bytes() <= size && record.unreadable_bytes() <= size);
        assert!(record.unreadable.is_sorted_by(|a, b| a.end < b.start));
        assert!(
            record
                .unreadable
                .iter()
                .all(|range| range.start < range.end && range.end <= size)
        );
        let (mut at, mut free) = (0, 0);
        while at < size {
            let (is_free, until) = record.free_at(at);
            assert!(until > at, "what is free goes on");
            if is_free {
                free += until.min(size) - at;
            }
            at = until;
        }
        assert_eq!(free, record.free_bytes());
    });
}

/// A disk of 1000 clusters of 512 bytes.
fn image_of_a_hole() -> Vec<u8> {
    let directory = std::env::temp_dir();
    let name = |kind: &str| directory.join(format!("mkqcow2-record-{}-{kind}", std::process::id()));
    let (source, image) = (name("source"), name("image"));
    let file = std::fs::File::create(&source).expect("a temporary file");
    file.set_len(512_000).expect("a hole takes no room");
    let options = mkqcow2::Options {
        cluster_size: ClusterSize::MIN,
        sync: false,
        ..mkqcow2::Options::default()
    };
    mkqcow2::create(&source, &image, options, &mkqcow2::Silent).expect("an image");
    let bytes = std::fs::read(&image).expect("the image");
    for path in [source, image] {
        std::fs::remove_file(path).expect("a temporary file");
    }
    bytes
}

fn in_memory(bytes: &[u8], work: impl FnOnce(&Path)) {
    let memory = rustix::fs::memfd_create("image", rustix::fs::MemfdFlags::CLOEXEC);
    let mut file = std::fs::File::from(memory.expect("a file in memory"));
    file.write_all(bytes).expect("room for the image");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    work(Path::new(&path));
}

/// An image that is not qcow2. Only the file itself is opened, whatever it names.
fn other(path: &Path, format: Format) {
    let access = Access {
        password: Some(Password::new(b"password".to_vec())),
        ..Access::default()
    };
    let Ok(disk) = chain(path, Some(format), access) else {
        return;
    };
    assert!(disk.image().is_none() && disk.is_alone() && disk.len() > 0);
    let cluster_size = disk.own_cluster_size();
    assert!(cluster_size.is_power_of_two() && (512..=64 << 20).contains(&cluster_size));
    assert!(disk.remarks().count() <= 1);
    read(&disk);
}

/// The disk in an image, which nobody else writes to.
fn chain(path: &Path, format: Option<Format>, access: Access) -> mkqcow2::Result<Chain> {
    let opening = Opening {
        format,
        ..Opening::image(access)
    };
    match mkqcow2::open(path, &opening)? {
        AnyDisk::Image(chain) => Ok(*chain),
        AnyDisk::Raw(_) => unreachable!("raw is nothing that was said"),
    }
}

/// The same for a file. Only the file itself is opened, whatever it names.
pub fn image_at(path: &Path) {
    let Ok(image) = Image::open(path) else {
        assert!(chain(path, None, Access::default()).is_err());
        return;
    };
    assert!(image.remarks().count() <= 2);
    let mut names = Vec::new();
    for snapshot in image.snapshots().take(64).map_while(Result::ok) {
        if let Ok(view) = image.view_of(&snapshot) {
            walk(&image, view);
        }
        names.push(snapshot.id);
    }
    // Told of one by one: there is no need to keep them.
    let _ = image.bitmaps().take_while(Result::is_ok).count();
    if let Ok(Some(record)) = image.record() {
        assert!(record.free_bytes() <= image.header().geometry().size());
    }
    if let Ok(Some(checksums)) = image.checksums() {
        let _ = checksums.for_each(|_, _| ());
    }
    walk(&image, image.active());
    let active = Access::default();
    let snapshots = names.into_iter().take(4).map(|name| Access {
        snapshot: Some(name),
        ..Access::default()
    });
    for access in [active].into_iter().chain(snapshots) {
        if let Ok(disk) = chain(path, None, access) {
            read(&disk);
        }
    }
}

/// Runs follow one another to the end of the disk, or to where it is damaged.
fn walk(image: &Image, view: View) {
    let mut at = 0;
    for _ in 0..MAX_RUNS {
        match image.run_at(view, GuestOffset(at), 1 << 40) {
            Ok(run) if run.length == 0 => {
                assert!(at == view.size, "an empty run at {at:#x}");
                return;
            }
            Ok(run) => at += run.length,
            // The disk may well go on.
            Err(_) => at = (at + image.header().geometry().cluster_size()).min(view.size),
        }
        assert!(
            at <= view.size,
            "a run ends at {at:#x}, the disk at {:#x}",
            view.size
        );
    }
}

/// What is read in two pieces is what is read in one.
fn read(disk: &Chain) {
    let mut at = 0;
    for _ in 0..MAX_RUNS {
        let Ok(run) = disk.place_at(GuestOffset(at), 1 << 40) else {
            break;
        };
        if run.length == 0 {
            assert!(at == disk.len());
            break;
        }
        let length = run.length.min(MAX_PIECE) as usize;
        let mut whole = vec![0xa5; length];
        if disk.read_at(&mut whole, at).is_ok() {
            let mut parts = vec![0x5a; length];
            let (first, second) = parts.split_at_mut(length / 3);
            let middle = at + first.len() as u64;
            disk.read_at(first, at).expect("it was read before");
            disk.read_at(second, middle).expect("it was read before");
            assert!(whole == parts, "at {at:#x}");
            assert!(!run.is_zero() || whole.iter().all(|byte| *byte == 0));
        }
        at += run.length;
    }
    let end = disk.len().saturating_sub(100);
    let _ = disk.read_at(&mut [0; 100], end);
}
