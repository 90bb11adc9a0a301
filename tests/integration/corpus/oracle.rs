//! What qemu-img has to say about a specimen.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::{Specimen, word};

/// A range of the virtual disk, as `map --output=json` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the fields of qemu")]
pub struct Range {
    pub start: u64,
    pub length: u64,
    /// How many backing files down it is found.
    pub depth: u64,
    /// Whether anything in the chain says what is in it.
    pub present: bool,
    pub zero: bool,
    pub data: bool,
    pub compressed: bool,
    /// In the file at that depth, or its data file.
    pub offset: Option<u64>,
}

impl Specimen {
    /// The whole disk.
    pub fn raw(&self) -> Vec<u8> {
        self.raw_of(&self.path)
    }

    /// The whole disk as it was when a snapshot was taken: of the size that it had then, which
    /// `qemu-img convert -l` does not tell.
    pub fn raw_snapshot(&self, name: &str) -> Vec<u8> {
        let copy = self.scratch("applied");
        std::fs::copy(&self.path, &copy).unwrap();
        self.succeeds(&["snapshot", "-q", "-a", name, word(&copy)]);
        let bytes = self.raw_of(&copy);
        std::fs::remove_file(&copy).unwrap();
        bytes
    }

    fn raw_of(&self, image: &Path) -> Vec<u8> {
        let raw = self.scratch("raw");
        self.succeeds(&[
            "convert",
            "-q",
            "-f",
            "qcow2",
            "-O",
            "raw",
            word(image),
            word(&raw),
        ]);
        let bytes = std::fs::read(&raw).unwrap();
        std::fs::remove_file(&raw).unwrap();
        bytes
    }

    /// A name that no other thread uses at the same time.
    fn scratch(&self, extension: &str) -> PathBuf {
        let thread = format!("{:?}", std::thread::current().id());
        self.path.with_extension(format!("{thread}.{extension}"))
    }

    /// What is where.
    pub fn qemu_map(&self) -> Vec<Range> {
        let output = self.succeeds(&["map", "-f", "qcow2", "--output=json", word(&self.path)]);
        ranges(&output.stdout)
    }

    /// The exit status of `qemu-img check`: 0 clean, 2 corrupt, 3 leaks.
    pub fn qemu_check_status(&self) -> i32 {
        let output = self.qemu_img(&["check", "-q", "-f", "qcow2", word(&self.path)]);
        output.status.code().unwrap()
    }

    /// Whether `qemu-img compare` takes it for equal to another disk.
    pub fn qemu_equals(&self, other: &Path, format: &str) -> bool {
        let words = [
            "compare",
            "-q",
            "-f",
            "qcow2",
            "-F",
            format,
            word(&self.path),
            word(other),
        ];
        let output = self.qemu_img(&words);
        match output.status.code() {
            Some(0) => true,
            Some(1) => false,
            _ => panic!("{words:?}: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    fn succeeds(&self, words: &[&str]) -> Output {
        let output = self.qemu_img(words);
        assert!(
            output.status.success(),
            "qemu-img {words:?}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    /// Run where the image is: qemu resolves the name of a data file against the working directory.
    fn qemu_img(&self, words: &[&str]) -> Output {
        let mut command = Command::new("qemu-img");
        let command = command.args(words).current_dir(self.path.parent().unwrap());
        command.stdin(Stdio::null()).output().unwrap()
    }
}

/// Reads the JSON that `map` prints, ours or theirs.
pub fn ranges(json: &[u8]) -> Vec<Range> {
    let json: serde_json::Value = serde_json::from_slice(json).unwrap();
    let ranges = json.as_array().unwrap().iter();
    let ranges = ranges.map(|range| {
        let number = |name: &str| range[name].as_u64();
        let flag = |name: &str| range[name].as_bool().unwrap();
        Range {
            start: number("start").unwrap(),
            length: number("length").unwrap(),
            depth: number("depth").unwrap(),
            present: flag("present"),
            zero: flag("zero"),
            data: flag("data"),
            compressed: flag("compressed"),
            offset: number("offset"),
        }
    });
    ranges.collect()
}
