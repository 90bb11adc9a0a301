//! The proof that what is called free is of no use to anybody: a disk full of markers, a filesystem made and filled
//! on it by other people's tools, and copies that hold what is in use and other markers instead of all the rest. Its
//! own checker, and the kernel, must find every file as it was.
//!
//! ```text
//! Proof::of("ext4-1k", 64 * MIB, Ext::new("-t ext4 -b 1024")).aged(3000).holds();
//!
//! Proof::disk("gpt", 64 * MIB)
//!     .laid_out_by(|disk| ..)
//!     .volume(MIB..30 * MIB, Ext::new("-t ext2"))
//!     .volume(30 * MIB..62 * MIB, Fat)
//!     .made()
//!     .on_a_device()
//!     .imaged_with("--cluster-size 4K")
//!     .holds();
//! ```

pub mod btrfs;
pub mod exfat;
pub mod ext;
pub mod fat;
mod files;
mod marker;
pub mod xfs;

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use mkqcow2::disk::{self, Open};
use mkqcow2::volumes::{self, Reason, Region, Scan, State, Treatment};

use crate::support::loops::{Loop, Mount, until};
use crate::support::{Dir, tool};
pub use files::{Listing, fill_up};
pub use marker::Marker;

pub const MIB: u64 = 1 << 20;

/// How long a stretch is, in bytes, that becomes a hole as a whole if it is free.
const HOLES: u64 = 96 << 10;

/// A kind of filesystem, as other people's tools know it. `at` is a file, or the device of a partition.
pub trait Filesystem {
    /// Makes one, which discards and zeroes no more than it must.
    fn make(&self, at: &Path);

    /// Holds it to its own checker. `at` is a copy of which nothing is expected afterwards but its files.
    fn check(&self, at: &Path);

    /// How many bytes are in use, as its own tools count them.
    fn used(&self, _at: &Path) -> Option<u64> {
        None
    }

    /// Whether the program tells which of its blocks are metadata.
    fn tells_metadata(&self) -> bool {
        true
    }

    /// Whether files have modes, links, holes and extended attributes.
    fn is_posix(&self) -> bool {
        true
    }

    /// Lets `work` change what it holds through a directory. `scratch` is a directory for mounts and the like.
    fn write(&self, at: &Path, scratch: &Path, work: &mut dyn FnMut(&Path)) {
        mounted("rw", at, scratch, work);
    }

    /// Lets `work` look at what a copy holds through a directory. Where the kernel does it, the copy is mounted
    /// writable: it does all that it would do after the disk came back.
    fn read(&self, at: &Path, scratch: &Path, work: &mut dyn FnMut(&Path)) {
        mounted("rw", at, scratch, work);
    }
}

/// Mounts a file or device while `work` is done.
#[track_caller]
pub fn mounted(options: &str, at: &Path, scratch: &Path, work: &mut dyn FnMut(&Path)) {
    let device = at.is_file().then(|| Loop::over(at));
    let device_path = device.as_ref().map_or(at, Loop::path);
    let mount = Mount::new(options, device_path, scratch.join("mounted"));
    work(mount.point());
    drop(mount);
    drop(device);
    until_let_go(at);
}

/// Waits until no loop device has the file: after a lazy unmount it is still in use.
#[track_caller]
pub fn until_let_go(file: &Path) {
    let file = file.to_str().unwrap();
    let is_free = || {
        let devices = fs::read_dir("/sys/block").unwrap();
        let mut files = devices
            .filter_map(|device| fs::read_to_string(device.unwrap().path().join("loop/backing_file")).ok());
        !files.any(|backing| backing.trim_end() == file)
    };
    until("a loop device that lets its file go", is_free);
}

/// A directory in memory: nothing waits until the disks in it are on stable storage.
#[derive(Debug)]
pub struct Place {
    /// Unmounted before the directory goes.
    _mount: Mount,
    pub dir: Dir,
}

impl Place {
    /// With room for a disk of `size` bytes, its image, and copies of both. No two tests have the same name.
    #[track_caller]
    pub fn new(name: &str, size: u64) -> Self {
        let dir = Dir::new(&format!("proof-{name}"));
        let room = 5 * size + 64 * MIB;
        Self {
            _mount: Mount::tmpfs(room, dir.path().to_owned()),
            dir,
        }
    }
}

/// What is done to a disk, or the device of a volume, by other people's tools.
type Work = Box<dyn Fn(&Path)>;

/// A disk that is to be proven, in the making.
pub struct Proof {
    place: Place,
    size: u64,
    lay_out: Option<Work>,
    volumes: Vec<(Pieces, Box<dyn Filesystem>)>,
    aged: u64,
    is_full: bool,
    change: Option<Work>,
}

impl Proof {
    /// A filesystem on all of a disk.
    pub fn of(name: &str, size: u64, filesystem: impl Filesystem + 'static) -> Self {
        Self::disk(name, size).volume(0..size, filesystem)
    }

    /// A disk without anything. `name` tells whose it is; no two tests have the same.
    pub fn disk(name: &str, size: u64) -> Self {
        Self {
            place: Place::new(name, size),
            size,
            lay_out: None,
            volumes: Vec::new(),
            aged: 0,
            is_full: false,
            change: None,
        }
    }

    /// Partitions it.
    pub fn laid_out_by(mut self, lay_out: impl Fn(&Path) + 'static) -> Self {
        self.lay_out = Some(Box::new(lay_out));
        self
    }

    /// Puts a filesystem into a part of it.
    pub fn volume(self, range: Range<u64>, filesystem: impl Filesystem + 'static) -> Self {
        self.scattered([range], filesystem)
    }

    /// Puts a filesystem into parts of it, which follow each other in this order.
    pub fn scattered(
        mut self,
        ranges: impl IntoIterator<Item = Range<u64>>,
        filesystem: impl Filesystem + 'static,
    ) -> Self {
        let pieces = Pieces(ranges.into_iter().collect());
        self.volumes.push((pieces, Box::new(filesystem)));
        self
    }

    /// Has so many files made and most of them deleted again, in between the others.
    pub fn aged(mut self, files: u64) -> Self {
        self.aged = files;
        self
    }

    /// Has it filled until there is no room.
    pub fn full(mut self) -> Self {
        self.is_full = true;
        self
    }

    /// Changes a volume that is not mounted, in between: `at` is its file or device.
    pub fn changed_by(mut self, change: impl Fn(&Path) + 'static) -> Self {
        self.change = Some(Box::new(change));
        self
    }

    /// Makes everything: a disk full of markers, its filesystems, their files, some of them deleted.
    #[track_caller]
    pub fn made(self) -> Given {
        let disk = self.place.dir.join("disk.raw");
        fs::write(&disk, Marker::A.times(self.size)).unwrap();
        if let Some(lay_out) = self.lay_out {
            lay_out(&disk);
        }
        let mut volumes = Vec::new();
        for (pieces, filesystem) in self.volumes {
            let volume = Device::new(&disk, &pieces);
            let (at, scratch) = (volume.path(), self.place.dir.path());
            let budget = pieces.size() / 4;
            filesystem.make(at);
            let is_posix = filesystem.is_posix();
            filesystem.write(at, scratch, &mut |root| files::fill(root, budget, is_posix));
            if self.aged > 0 {
                filesystem.write(at, scratch, &mut |root| files::age(root, self.aged, budget));
            }
            if let Some(change) = &self.change {
                change(at);
            }
            // Through all caches to the disk, and deleted when nothing knows it any more.
            filesystem.write(at, scratch, &mut |root| {
                fs::write(root.join("secret"), Marker::Secret.times(32 << 10)).unwrap();
            });
            let mut listing = Listing::default();
            filesystem.write(at, scratch, &mut |root| {
                fs::remove_file(root.join("secret")).unwrap();
                if self.is_full {
                    fill_up(root);
                }
                listing = Listing::of(root, is_posix);
            });
            drop(volume);
            volumes.push(Volume {
                pieces,
                filesystem,
                listing,
            });
        }
        Given::over(self.place, disk, volumes)
    }

    /// Makes everything, and holds it.
    #[track_caller]
    pub fn holds(self) {
        self.made().holds();
    }
}

/// Where a volume lies on a disk: its bytes in the order of the volume.
#[derive(Clone, Debug)]
pub struct Pieces(Vec<Range<u64>>);

impl From<Range<u64>> for Pieces {
    fn from(range: Range<u64>) -> Self {
        Self(vec![range])
    }
}

impl Pieces {
    fn size(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }
}

/// A part of a disk as a file, which it is if it is all of it, or as a device. One in many pieces is a copy, which is
/// put back in the end.
struct Device<'a> {
    path: PathBuf,
    _part: Option<Loop>,
    scattered: Option<(&'a Path, &'a Pieces)>,
}

impl<'a> Device<'a> {
    #[track_caller]
    fn new(disk: &'a Path, pieces: &'a Pieces) -> Self {
        let [range] = &*pieces.0 else {
            return Self::gathered(disk, pieces);
        };
        let is_all = *range == (0..disk.metadata().unwrap().len());
        let part = (!is_all).then(|| Loop::part(disk, range.start, range.end - range.start));
        Self {
            path: part.as_ref().map_or(disk, Loop::path).to_owned(),
            _part: part,
            scattered: None,
        }
    }

    fn gathered(disk: &'a Path, pieces: &'a Pieces) -> Self {
        let bytes = fs::read(disk).unwrap();
        let pick = |range: &Range<u64>| &bytes[range.start as usize..range.end as usize];
        let gathered: Vec<&[u8]> = pieces.0.iter().map(pick).collect();
        let path = disk.with_extension("gathered");
        fs::write(&path, gathered.concat()).unwrap();
        Self {
            path,
            _part: None,
            scattered: Some((disk, pieces)),
        }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Device<'_> {
    fn drop(&mut self) {
        let Some((disk, pieces)) = self.scattered else {
            return;
        };
        let gathered = fs::read(&self.path).unwrap();
        let disk = File::options().write(true).open(disk).unwrap();
        let mut rest = &*gathered;
        for range in &pieces.0 {
            let (here, behind) = rest.split_at((range.end - range.start) as usize);
            disk.write_all_at(here, range.start).unwrap();
            rest = behind;
        }
        fs::remove_file(&self.path).unwrap();
    }
}

/// A filesystem on a disk, and what it holds.
pub struct Volume {
    /// Where it lies.
    pub pieces: Pieces,
    /// What it is.
    pub filesystem: Box<dyn Filesystem>,
    /// What must be found in every copy; nothing if that is not asked for.
    pub listing: Listing,
}

/// A disk that was made, and that nobody uses.
pub struct Given {
    pub place: Place,
    /// The disk, without holes.
    pub disk: PathBuf,
    pub volumes: Vec<Volume>,
    options: String,
    is_device: bool,
    whole_because: Option<&'static str>,
}

impl Given {
    /// A disk that was made in another way.
    #[track_caller]
    pub fn over(place: Place, disk: PathBuf, volumes: Vec<Volume>) -> Self {
        until_let_go(&disk);
        // Holes would be free whatever a filesystem says.
        let bytes = fs::read(&disk).unwrap();
        fs::write(&disk, bytes).unwrap();
        Self {
            place,
            disk,
            volumes,
            options: String::new(),
            is_device: false,
            whole_because: None,
        }
    }

    /// Images it with options.
    pub fn imaged_with(mut self, options: &str) -> Self {
        options.clone_into(&mut self.options);
        self
    }

    /// Images it as a block device.
    pub fn on_a_device(mut self) -> Self {
        self.is_device = true;
        self
    }

    /// Expects all of it to be copied, with a warning that has these words, or without one if there are none.
    pub fn copied_whole_because(mut self, words: &'static str) -> Self {
        self.whole_because = Some(words);
        self
    }

    /// The proof: what is told, what is in the image, what a disk holds that has only what is in use.
    #[track_caller]
    pub fn holds(self) {
        let source = fs::read(&self.disk).unwrap();
        self.assert_told();
        let image = self.image();
        let used = self.used();
        self.assert_stale(&source, &used);

        // What is free is something else than it was, and something else than zeros.
        let copy = self.place.dir.join("copy.raw");
        fs::write(&copy, only(&source, &used, &Marker::B.times(source.len() as u64))).unwrap();
        self.assert_intact(&copy);
        fs::remove_file(copy).unwrap();
        self.assert_metadata(&source);

        // What comes out of the image, on disks that are full of something else.
        let expected = only(&source, &used, &vec![0; source.len()]);
        for restore in [Self::restored, Self::converted] {
            let restored = restore(&self, &image);
            assert_same_bytes(&fs::read(&restored).unwrap(), &expected);
            fs::remove_file(restored).unwrap();
        }
        let restored = self.restored_used_only();
        self.assert_intact(&restored);
        self.assert_intact_from_holes(&source, &used, &expected);
        if self.whole_because.is_none() {
            assert_eq!(Marker::Secret.count(&expected), 0, "deleted, yet there");
        }
    }

    /// The same from a sparse file: what is in use and zeros is a hole of it, and so is some of what is free. A hole is no
    /// less in use for that, whatever the format.
    #[track_caller]
    fn assert_intact_from_holes(&self, source: &[u8], used: &[Range<u64>], expected: &[u8]) {
        // Every other stretch of what is free is zeros.
        let is_kept = |at: &u64| (at / HOLES).is_multiple_of(2);
        let half: Vec<u8> = (0..)
            .zip(source)
            .map(|(at, byte)| if is_kept(&at) { *byte } else { 0 })
            .collect();
        fs::write(&self.disk, only(source, used, &half)).unwrap();
        tool("fallocate", ["--dig-holes", self.disk.to_str().unwrap()]);
        for (format, restores) in [
            ("", &["", "--used-only"][..]),
            ("-c zstd", &["--used-only"]),
            ("-c zlib --compat 0.10", &["--used-only"]),
        ] {
            let image = self.image_of(&self.disk, format);
            for options in restores {
                let restored = self.restored_with(options);
                let found = fs::read(&restored).unwrap();
                match *options {
                    "" => assert_same_bytes(&found, expected),
                    _ => assert_same_bytes(&only(&found, used, expected), expected),
                }
                self.assert_intact(&restored);
            }
            fs::remove_file(image).unwrap();
        }
        fs::write(&self.disk, source).unwrap();
    }

    /// What is called metadata is enough for the checker, and to find every file and its attributes; and no more than
    /// that.
    #[track_caller]
    fn assert_metadata(&self, source: &[u8]) {
        if self.whole_because.is_some()
            || !self
                .volumes
                .iter()
                .all(|volume| volume.filesystem.tells_metadata())
        {
            return;
        }
        let disk = disk::open(&self.disk, Open::default()).unwrap();
        let allocation = volumes::scan(&disk, Scan::Auto).unwrap();
        let kept = allocation
            .pieces()
            .filter(|piece| piece.state == State::Metadata || piece.reason == Some(Reason::Unpartitioned));
        let kept: Vec<_> = kept.map(|piece| piece.range).collect();
        let copy = self.place.dir.join("metadata.raw");
        let rest = Marker::B.times(source.len() as u64);
        fs::write(&copy, only(source, &kept, &rest)).unwrap();
        for volume in &self.volumes {
            let device = Device::new(&copy, &volume.pieces);
            volume.filesystem.check(device.path());
            let (is_posix, scratch) = (volume.filesystem.is_posix(), self.place.dir.path());
            volume.filesystem.read(device.path(), scratch, &mut |root| {
                volume.listing.assert_without_data(&Listing::of(root, is_posix));
            });
        }
        fs::remove_file(copy).unwrap();
    }

    /// The ranges that are in use, as the program tells them.
    #[track_caller]
    pub fn used(&self) -> Vec<Range<u64>> {
        let map = self.place.dir.run("map --json disk.raw").exits(0).json();
        let used = map
            .as_array()
            .unwrap()
            .iter()
            .filter(|range| range["data"] == true);
        let used = used.map(|range| {
            let [start, length] = ["start", "length"].map(|key| range[key].as_u64().unwrap());
            start..start + length
        });
        used.collect()
    }

    /// Holds each volume to its checker and its files, all in `disk`, which may be changed.
    #[track_caller]
    pub fn assert_intact(&self, disk: &Path) {
        for volume in &self.volumes {
            let device = Device::new(disk, &volume.pieces);
            volume.filesystem.check(device.path());
            let is_posix = volume.filesystem.is_posix();
            volume
                .filesystem
                .read(device.path(), self.place.dir.path(), &mut |root| {
                    volume.listing.assert_in(&Listing::of(root, is_posix));
                });
        }
    }

    /// What is recognised, and how much of it is said to be in use, is what the tools of the filesystem say.
    #[track_caller]
    fn assert_told(&self) {
        let source = disk::open(&self.disk, Open::default()).unwrap();
        let allocation = volumes::scan(&source, Scan::Auto).unwrap();
        for volume in &self.volumes {
            let region = allocation
                .regions
                .iter()
                .rfind(|region| region.segments.ranges().eq(&volume.pieces.0));
            let region = region.unwrap_or_else(|| panic!("no region is {:?}", volume.pieces));
            if let Some(words) = self.whole_because {
                assert_eq!(doubt_of(region).is_empty(), words.is_empty(), "{region:?}");
                assert!(doubt_of(region).contains(words), "expected {words:?}: {region:?}");
                assert_eq!(region.used, volume.pieces.size());
                continue;
            }
            assert!(matches!(region.treatment, Treatment::Mapped), "{region:?}");
            let device = Device::new(&self.disk, &volume.pieces);
            if let Some(used) = volume.filesystem.used(device.path()) {
                assert_eq!(region.used, used, "bytes in use, by us and by its own tools");
            }
        }
    }

    /// Images the disk.
    #[track_caller]
    fn image(&self) -> PathBuf {
        let device = self.is_device.then(|| Loop::read_only(&self.disk));
        let image = self.image_of(device.as_ref().map_or(&*self.disk, Loop::path), "");
        drop(device);
        until_let_go(&self.disk);
        image
    }

    /// Images the file or device that the disk is, with more options.
    #[track_caller]
    fn image_of(&self, source: &Path, format: &str) -> PathBuf {
        let run = format!(
            "--no-sync {} {format} {} image.qcow2",
            self.options,
            source.display()
        );
        let run = self.place.dir.run(&run).exits(0);
        if let Some(words) = self.whole_because {
            run.says(words);
        }
        let image = self.place.dir.join("image.qcow2");
        tool(
            "qemu-img",
            ["check", "-q", "-f", "qcow2", image.to_str().unwrap()],
        );
        image
    }

    /// A file that is not what will be written to it.
    fn target(&self) -> PathBuf {
        let target = self.place.dir.join("restored.raw");
        let size = self.disk.metadata().unwrap().len();
        fs::write(&target, Marker::B.times(size)).unwrap();
        target
    }

    /// By the program, to a device.
    #[track_caller]
    fn restored(&self, _: &Path) -> PathBuf {
        self.restored_with("")
    }

    /// The same, with no more written than what is in the image.
    #[track_caller]
    fn restored_used_only(&self) -> PathBuf {
        self.restored_with("--used-only")
    }

    #[track_caller]
    fn restored_with(&self, options: &str) -> PathBuf {
        let target = self.target();
        let device = Loop::over(&target);
        let run = format!(
            "restore --no-sync {options} image.qcow2 {}",
            device.path().display()
        );
        self.place.dir.run(&run).exits(0);
        drop(device);
        until_let_go(&target);
        target
    }

    /// By QEMU.
    #[track_caller]
    fn converted(&self, image: &Path) -> PathBuf {
        let target = self.target();
        let (from, to) = (image.to_str().unwrap(), target.to_str().unwrap());
        tool(
            "qemu-img",
            ["convert", "-n", "-f", "qcow2", "-O", "raw", from, to],
        );
        target
    }

    /// The disk was worth the proof: what was there before is still there, and so is what was deleted.
    #[track_caller]
    fn assert_stale(&self, source: &[u8], used: &[Range<u64>]) {
        if self.whole_because.is_some() {
            return;
        }
        let free = only(&vec![0; source.len()], used, source);
        assert!(Marker::A.count(&free) > 0, "nothing that is free is stale");
        let has_files = self.volumes.iter().any(|volume| !volume.listing.is_empty());
        assert!(
            !has_files || Marker::Secret.count(&free) > 0,
            "no deleted file is left"
        );
    }
}

fn doubt_of(region: &Region) -> String {
    match &region.treatment {
        Treatment::Doubted(doubt) => doubt.to_string(),
        Treatment::Corrected(missing) => missing.to_string(),
        Treatment::Partitioned
        | Treatment::Grouped
        | Treatment::Mapped
        | Treatment::Unknown
        | Treatment::Whole(_) => String::new(),
    }
}

/// What `source` holds in these ranges, and `rest` everywhere else.
fn only(source: &[u8], used: &[Range<u64>], rest: &[u8]) -> Vec<u8> {
    let mut bytes = rest.to_vec();
    for range in used {
        let range = range.start as usize..(range.end as usize).min(source.len());
        bytes[range.clone()].copy_from_slice(&source[range]);
    }
    bytes
}

#[track_caller]
fn assert_same_bytes(found: &[u8], expected: &[u8]) {
    assert_eq!(found.len(), expected.len());
    if found != expected {
        let differs = found.iter().zip(expected).position(|(a, b)| a != b);
        panic!("it differs from byte {differs:?} on");
    }
}
