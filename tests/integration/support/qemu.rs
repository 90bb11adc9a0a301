//! qemu-img and qemu-io: they make images, change them as guests do, and say what is right.
//!
//! They run in the directory of the test, because they look there for the files that they are given and for external
//! data files; for backing files they look where the image is.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Dir, to_install};

/// Runs `qemu-img` with words that are separated by white space, and holds it to success. Returns what it printed.
#[track_caller]
pub fn img(dir: &Dir, line: &str) -> String {
    run(dir.path(), "qemu-img", line.split_whitespace())
}

/// Has `qemu-io` do to an image what its guest would, a command after the other.
#[track_caller]
pub fn io(dir: &Dir, format: &str, image: &str, commands: &[&str]) {
    let commands = commands.iter().flat_map(|command| ["-c", command]);
    let words = ["-f", format].into_iter().chain(commands);
    run(dir.path(), "qemu-io", words.chain([image]));
}

/// Makes a qcow2 as `qemu-img create` does from these words, of which the last but one is its name, and has
/// `qemu-io` write to it.
#[track_caller]
pub fn image(dir: &Dir, create: &str, commands: &[&str]) {
    img(dir, &format!("create -q -f qcow2 {create}"));
    let name = create.split_whitespace().rev().nth(1).unwrap();
    io(dir, "qcow2", name, commands);
}

/// Has a guest write to a qcow2, and discard what it no longer needs. The image is clean afterwards.
#[track_caller]
pub fn guest<S: AsRef<str>>(image: &Path, commands: &[S]) {
    let commands = commands.iter().flat_map(|command| ["-c", command.as_ref()]);
    let words = ["-f", "qcow2", "-d", "unmap"].into_iter().chain(commands);
    run_on(image, "qemu-io", words);
    assert_clean(image);
}

/// Runs `qemu-img` on a qcow2, whose name is the last word. The image is clean afterwards.
#[track_caller]
pub fn manage(image: &Path, line: &str) {
    run_on(image, "qemu-img", line.split_whitespace());
    assert_clean(image);
}

/// Holds a qcow2 to `qemu-img check` without errors or leaks.
#[track_caller]
pub fn assert_clean(image: &Path) {
    run_on(image, "qemu-img", ["check", "-q", "-f", "qcow2"]);
}

fn run_on<'a>(image: &'a Path, program: &str, words: impl IntoIterator<Item = &'a str>) {
    let words = words.into_iter().map(OsStr::new);
    run(image.parent().unwrap(), program, words.chain([image.as_os_str()]));
}

/// Runs a program of QEMU with words that may hold white space, and holds it to success. Returns what it printed.
#[track_caller]
pub fn run(directory: &Path, program: &str, words: impl IntoIterator<Item: AsRef<OsStr>>) -> String {
    let mut command = Command::new(program);
    command.args(words).current_dir(directory).stdin(Stdio::null());
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}: {}", to_install(program)));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    // qemu-io may say that something failed, and end with 0.
    assert!(
        output.status.success() && !said.contains("failed"),
        "{command:?}: {}\n{said}",
        output.status
    );
    text
}
