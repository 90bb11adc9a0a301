//! The files of a filesystem: of all kinds and sizes when it is filled, and what they are when it is looked at.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, XattrFlags};

use crate::support::{Dice, noise};

/// How large the pieces are that a filesystem is filled up with, in bytes.
const PIECE: usize = 128 << 10;

/// The kernel's limit for the names of a file's attributes, and for the value of one, in bytes.
const ATTRIBUTES: usize = 64 << 10;

/// Files of all kinds, of about `budget` bytes together.
pub fn fill(root: &Path, budget: u64, is_posix: bool) {
    let large = (budget / 4) as usize;
    for (name, length) in [
        ("empty", 0),
        ("one", 1),
        ("block", 4096),
        ("more", 4097),
        ("medium", large / 8),
        ("large", large),
    ] {
        fs::write(root.join(name), noise(length as u64, length)).unwrap();
    }
    // In use, and no other than what is not.
    fs::write(root.join("zeros"), vec![0; large / 8]).unwrap();
    let many = root.join("many");
    fs::create_dir(&many).unwrap();
    let mut dice = Dice::new(budget);
    for i in 0..(budget / 16384).min(300) {
        let length = dice.below(5000) as usize;
        fs::write(many.join(format!("file-{i:04}")), noise(i, length)).unwrap();
    }
    let deep: PathBuf = (0..12).map(|level| format!("deep-{level}")).collect();
    DirBuilder::new()
        .recursive(true)
        .create(root.join(&deep))
        .unwrap();
    fs::write(root.join(deep).join("bottom"), noise(7, 3000)).unwrap();
    if is_posix {
        fill_special(root, large);
    }
}

/// What only some filesystems have.
fn fill_special(root: &Path, large: usize) {
    symlink("large", root.join("short-link")).unwrap();
    symlink("somewhere/".repeat(20), root.join("long-link")).unwrap();
    fs::hard_link(root.join("medium"), root.join("medium-too")).unwrap();
    fs::set_permissions(root.join("one"), fs::Permissions::from_mode(0o600)).unwrap();

    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(3 * large as u64).unwrap();
    for at in [5, large, 2 * large] {
        sparse.write_all_at(&noise(at as u64, 2000), at as u64).unwrap();
    }
    // Blocks that are in use, and not written to yet.
    let reserved = File::create(root.join("reserved")).unwrap();
    let reserved_length = large as u64 / 4;
    if rustix::fs::fallocate(&reserved, FallocateFlags::empty(), 0, reserved_length).is_ok() {
        reserved.write_all_at(b"begun", 4096).unwrap();
    }
    // In the inode, and in a block of its own.
    for (name, length) in [("one", 20), ("block", 900)] {
        let value: Vec<_> = noise(9, length);
        let (path, empty) = (root.join(name), XattrFlags::empty());
        rustix::fs::setxattr(&path, "user.attribute", &value, empty).unwrap();
    }
}

/// Makes `count` files of all sizes; lets others grow, shrink and go meanwhile, so that hardly any stay, and those
/// all over the disk.
pub fn age(root: &Path, count: u64, budget: u64) {
    let mut dice = Dice::new(count);
    let (mut live, mut bytes) = (Vec::new(), 0);
    for directory in 0..8 {
        fs::create_dir(root.join(format!("aged-{directory}"))).unwrap();
    }
    for i in 0..count {
        let path = root.join(format!("aged-{}/{i}", dice.below(8)));
        let length = dice.below(if i % 50 == 0 { budget / 16 } else { 20_000 });
        fs::write(&path, noise(i, length as usize)).unwrap();
        live.push((path, length));
        bytes += length;
        while bytes > budget || (live.len() > 10 && dice.below(2) == 0) {
            let (path, length) = live.swap_remove(dice.below(live.len() as u64) as usize);
            fs::remove_file(path).unwrap();
            bytes -= length;
        }
        if dice.below(8) == 0
            && let Some((path, length)) = live.last_mut()
        {
            let new = dice.below(30_000);
            File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(new)
                .unwrap();
            bytes = bytes - *length + new;
            *length = new;
        }
    }
}

/// Writes until there is no room.
pub fn fill_up(root: &Path) {
    let piece = noise(99, PIECE);
    for i in 0.. {
        let mut file = match File::create(root.join(format!("full-{i}"))) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::StorageFull => return,
            Err(error) => panic!("{error}"),
        };
        match file.write_all(&piece).and_then(|()| file.sync_all()) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// What files there are, and what they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    files: BTreeMap<PathBuf, Entry>,
    /// Whether more files than these are no fault.
    is_part: bool,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    is_directory: bool,
    is_file: bool,
    length: u64,
    /// Of its content, or of the target of a link.
    hash: u64,
    /// Of what only some filesystems have: 0 in the others.
    mode: u32,
    links: u64,
    attributes: u64,
}

impl Listing {
    /// Everything below a directory.
    #[track_caller]
    pub fn of(root: &Path, is_posix: bool) -> Self {
        let mut listing = Self::default();
        listing.add(root, root, is_posix);
        listing
    }

    /// Expects no more than that these files are there.
    pub fn and_perhaps_more(self) -> Self {
        Self {
            is_part: true,
            ..self
        }
    }

    /// Expects nothing of some of the files.
    pub fn without(mut self, is_out: impl Fn(&Path) -> bool) -> Self {
        self.files.retain(|path, _| !is_out(path));
        self
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Holds what was found in a copy to what it should be.
    #[track_caller]
    pub fn assert_in(&self, found: &Self) {
        for (path, entry) in &self.files {
            assert_eq!(found.files.get(path), Some(entry), "{}", path.display());
        }
        let more = found.files.keys().find(|path| !self.files.contains_key(*path));
        assert!(self.is_part || more.is_none(), "came out of nowhere: {more:?}");
    }

    /// Holds what was found to what it should be, but for what large files hold, which must be lost.
    #[track_caller]
    pub fn assert_without_data(&self, found: &Self) {
        for (path, entry) in &self.files {
            let shown = path.display();
            let found = found.files.get(path).unwrap_or_else(|| panic!("{shown} is lost"));
            let hash = if entry.is_file { found.hash } else { entry.hash };
            assert_eq!(
                found,
                &Entry {
                    hash,
                    ..entry.clone()
                },
                "{shown}"
            );
            if path == Path::new("large") {
                assert_ne!(found.hash, entry.hash, "{shown} is no metadata");
            }
        }
    }

    #[track_caller]
    fn add(&mut self, root: &Path, directory: &Path, is_posix: bool) {
        let failed = |error: io::Error| -> ! { panic!("{}: {error}", directory.display()) };
        for entry in fs::read_dir(directory).unwrap_or_else(|error| failed(error)) {
            let path = entry.unwrap_or_else(|error| failed(error)).path();
            let entry =
                Entry::of(&path, is_posix).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let is_directory = entry.is_directory;
            let name = path.strip_prefix(root).unwrap().to_owned();
            self.files.insert(name, entry);
            if is_directory {
                self.add(root, &path, is_posix);
            }
        }
    }
}

impl Entry {
    fn of(path: &Path, is_posix: bool) -> io::Result<Self> {
        let metadata = path.symlink_metadata()?;
        let mut hasher = DefaultHasher::new();
        if metadata.is_symlink() {
            fs::read_link(path)?.hash(&mut hasher);
        } else if metadata.is_file() {
            let (mut file, mut piece) = (File::open(path)?, vec![0; PIECE]);
            loop {
                let length = file.read(&mut piece)?;
                if length == 0 {
                    break;
                }
                hasher.write(&piece[..length]);
            }
        }
        let is_plain = metadata.is_file() || metadata.is_symlink();
        Ok(Self {
            is_directory: metadata.is_dir(),
            is_file: metadata.is_file(),
            length: if is_plain { metadata.len() } else { 0 },
            hash: hasher.finish(),
            mode: if is_posix { metadata.mode() } else { 0 },
            links: if is_posix { metadata.nlink() } else { 0 },
            attributes: if is_posix { attributes(path)? } else { 0 },
        })
    }
}

/// A hash of the extended attributes.
fn attributes(path: &Path) -> io::Result<u64> {
    let (mut names, mut value) = (vec![0_u8; ATTRIBUTES], vec![0_u8; ATTRIBUTES]);
    let length = rustix::fs::llistxattr(path, &mut names)?;
    let mut hasher = DefaultHasher::new();
    let mut names: Vec<_> = names[..length].split(|byte| *byte == 0).collect();
    names.sort();
    for name in names.into_iter().filter(|name| !name.is_empty()) {
        let length = rustix::fs::lgetxattr(path, name, &mut value)?;
        (name, &value[..length]).hash(&mut hasher);
    }
    Ok(hasher.finish())
}
