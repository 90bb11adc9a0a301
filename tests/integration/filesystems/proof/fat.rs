//! FAT, as dosfstools and mtools know it: the kernel is not asked.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::Filesystem;
use crate::support::{noise, tool};

/// A FAT12, FAT16 or FAT32.
#[derive(Clone, Copy, Debug)]
pub struct Fat {
    /// Options of mkfs.fat, separated by spaces.
    options: &'static str,
}

impl Fat {
    /// Made with these options of mkfs.fat, such as `-F 12 -s 4`.
    pub fn new(options: &'static str) -> Self {
        Self { options }
    }
}

impl Filesystem for Fat {
    fn make(&self, at: &Path) {
        let options = self.options.split_whitespace();
        tool("mkfs.fat", options.chain([at.to_str().unwrap()]));
    }

    fn check(&self, at: &Path) {
        tool("fsck.fat", ["-n", at.to_str().unwrap()]);
    }

    fn used(&self, at: &Path) -> Option<u64> {
        let told = Told::of(at);
        Some(at_end(at) - (told.clusters - told.used) * told.cluster_size)
    }

    fn is_posix(&self) -> bool {
        false
    }

    /// By copying all out, and what is different afterwards in.
    fn write(&self, at: &Path, scratch: &Path, work: &mut dyn FnMut(&Path)) {
        let root = copied_out(at, scratch);
        let before = content(&root);
        work(&root);
        let after = content(&root);
        for (path, bytes) in before.iter().rev() {
            match (bytes, after.get(path)) {
                (_, Some(same)) if same == bytes => {}
                (Some(_), _) => mtool("mdel", at, &[&inside(path)]),
                (None, _) => mtool("mrd", at, &[&inside(path)]),
            }
        }
        for (path, bytes) in &after {
            match (bytes, before.get(path)) {
                (_, Some(same)) if same == bytes => {}
                (Some(_), _) => {
                    let from = root.join(path);
                    mtool("mcopy", at, &[from.to_str().unwrap(), &inside(path)]);
                }
                (None, _) => mtool("mmd", at, &[&inside(path)]),
            }
        }
        fs::remove_dir_all(root).unwrap();
    }

    fn read(&self, at: &Path, scratch: &Path, work: &mut dyn FnMut(&Path)) {
        let root = copied_out(at, scratch);
        work(&root);
        fs::remove_dir_all(root).unwrap();
    }
}

/// Runs one of the mtools on a file or device.
#[track_caller]
pub fn mtool(name: &str, at: &Path, arguments: &[&str]) {
    let arguments: Vec<_> = arguments.iter().map(OsStr::new).collect();
    mtool_tells(name, at, &arguments);
}

/// By themselves they refuse small FAT32 and large sectors.
#[track_caller]
fn mtool_tells(name: &str, at: &Path, arguments: &[&OsStr]) -> String {
    let options = ["MTOOLS_SKIP_CHECK=1", name, "-i"].map(OsStr::new);
    let arguments = [at.as_os_str()].into_iter().chain(arguments.iter().copied());
    tool("env", options.into_iter().chain(arguments))
}

/// A path as the mtools have it.
fn inside(path: &Path) -> String {
    format!("::/{}", path.display())
}

fn copied_out(at: &Path, scratch: &Path) -> PathBuf {
    let root = scratch.join("copied-out");
    fs::create_dir_all(&root).unwrap();
    // Of a root directory without anything mtools say that it is not there.
    let listed = mtool_tells("mdir", at, &[OsStr::new("-b")]);
    if listed.lines().any(|line| line.starts_with("::/")) {
        mtool("mcopy", at, &["-s", "-n", "-Q", "::/*", root.to_str().unwrap()]);
    }
    root
}

/// Everything below a directory: files with their bytes, directories with none.
fn content(root: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut all = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_owned();
            if path.is_dir() {
                all.insert(name, None);
                open.push(path);
            } else {
                all.insert(name, Some(fs::read(&path).unwrap()));
            }
        }
    }
    all
}

fn at_end(at: &Path) -> u64 {
    use std::io::{Seek, SeekFrom};
    fs::File::open(at).unwrap().seek(SeekFrom::End(0)).unwrap()
}

/// What fsck.fat tells of a volume.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    pub bits: u64,
    pub clusters: u64,
    /// Bad ones among them.
    pub used: u64,
    pub cluster_size: u64,
    pub data_start: u64,
}

impl Told {
    #[track_caller]
    pub fn of(at: &Path) -> Self {
        let told = tool("fsck.fat", ["-nv", at.to_str().unwrap()]);
        let words: Vec<_> = told
            .split([' ', '\n', '/', ','])
            .filter(|word| !word.is_empty())
            .collect();
        let number = |index: usize| words[index].parse::<u64>().ok();
        // The number that stands so many words before these.
        let before = |following: &str, skip: usize| {
            let following: Vec<_> = following.split(' ').collect();
            let mut windows = words.windows(following.len());
            let at = windows.rposition(|window| window == following);
            at.and_then(|at| number(at - 1 - skip))
                .unwrap_or_else(|| panic!("no number before {following:?} in\n{told}"))
        };
        let data = words
            .windows(5)
            .position(|window| window == ["Data", "area", "starts", "at", "byte"]);
        Self {
            bits: before("bit entries", 0),
            clusters: before("data clusters", 0),
            used: before("clusters", 1),
            cluster_size: before("bytes per cluster", 0),
            data_start: number(data.unwrap() + 5).unwrap(),
        }
    }
}

/// Scatters free clusters, and a file over them.
pub fn scatter(at: &Path) {
    let told = Told::of(at);
    let free = (told.clusters - told.used) * told.cluster_size;
    let files = 48;
    let directory = tempdir(at);
    let mut names = Vec::new();
    for i in 0..files {
        let path = directory.join(format!("scattered-{i:02}"));
        fs::write(&path, noise(i, (free / 4 / files) as usize)).unwrap();
        names.push(path.to_str().unwrap().to_owned());
    }
    let mut arguments: Vec<_> = names.iter().map(String::as_str).collect();
    arguments.push("::/");
    mtool("mmd", at, &["::/scattered"]);
    *arguments.last_mut().unwrap() = "::/scattered/";
    mtool("mcopy", at, &arguments);
    let every_other: Vec<_> = (0..files)
        .step_by(2)
        .map(|i| format!("::/scattered/scattered-{i:02}"))
        .collect();
    mtool(
        "mdel",
        at,
        &every_other.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    let large = directory.join("fills-gaps");
    // Of what is free now, all but a sixth, in the gaps too.
    let free = free - free / 8;
    fs::write(&large, noise(77, (free / 6 * 3) as usize)).unwrap();
    mtool("mcopy", at, &[large.to_str().unwrap(), "::/scattered/"]);
    fs::remove_dir_all(directory).unwrap();
}

/// Fills a volume until hardly anything is free.
pub fn fill_up(at: &Path, clusters_left: u64) {
    let told = Told::of(at);
    let free = told.clusters - told.used - clusters_left;
    let directory = tempdir(at);
    let file = directory.join("fills-up");
    fs::write(&file, noise(78, (free * told.cluster_size) as usize)).unwrap();
    mtool("mcopy", at, &[file.to_str().unwrap(), "::/"]);
    fs::remove_dir_all(directory).unwrap();
}

/// Next to the tests' other files; `at` may be a device.
fn tempdir(at: &Path) -> PathBuf {
    let name = at.display().to_string().replace('/', "-");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fat{name}"));
    fs::create_dir_all(&path).unwrap();
    path
}
