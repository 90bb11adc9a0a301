//! Images of any format as a source: QCOW version 1, QED, and qcow2 itself. QEMU makes them, and says what they hold.

mod aes;
mod by_hand;
mod checksums;
mod conversion;
mod in_use;
mod malformed;
mod mutations;
mod opened_once;
mod places;
mod refusals;
mod repacking;

use std::process::Command;

use crate::support::{Dir, assert_equals, noise, qemu};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Makes a compressed QCOW, about which `qemu-img` 10.0 says nothing, yet exits with 1: it is held to its content.
#[track_caller]
fn pack(dir: &Dir, raw: &str, image: &str) {
    let words = ["convert", "-c", "-f", "raw", "-O", "qcow", raw, image];
    let output = Command::new("qemu-img")
        .args(words)
        .current_dir(dir.path())
        .output();
    let output = output.unwrap();
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    qemu::img(dir, &format!("compare -q -f raw -F qcow {raw} {image}"));
}

/// A directory with eight files of noise to write from, `noise-0` and so on.
fn noisy(name: &str) -> Dir {
    let dir = Dir::new(name);
    for number in 0..8 {
        let bytes = noise(40 + number, MIB as usize);
        std::fs::write(dir.join(format!("noise-{number}")), bytes).unwrap();
    }
    dir
}

/// Holds the reading of an image to what qemu-img reads of it. `options` are for mkqcow2.
#[track_caller]
fn assert_converts(dir: &Dir, format: &str, image: &str, options: &str) {
    qemu::img(dir, &format!("convert -f {format} -O raw {image} expected.raw"));
    assert_holds(dir, format, image, options);
}

/// Holds the reading of an image to `expected.raw`: what is made of it, and what is restored, compared and mapped.
#[track_caller]
fn assert_holds(dir: &Dir, format: &str, image: &str, options: &str) {
    let run = dir.run(&format!(
        "-q --no-sync {options} --source-format {format} {image} new.qcow2"
    ));
    run.exits(0).in_silence();
    assert_equals(&dir.join("expected.raw"), &dir.join("new.qcow2"));
    dir.run("verify -q new.qcow2").exits(0);
    dir.run("compare -q --format-a raw expected.raw new.qcow2")
        .exits(0);
    let compare = format!("compare -q {options} --format-a {format} {image} new.qcow2");
    dir.run(&compare).exits(0).in_silence();
    dir.run(&format!(
        "restore --overwrite -q --no-sync {options} {image} copy.raw"
    ))
    .exits(0)
    .in_silence();
    dir.run("compare -q --strict --format-a raw --format-b raw expected.raw copy.raw")
        .exits(0);
    qemu::img(dir, "compare -q -f raw -F raw expected.raw copy.raw");
    for options in [options.to_owned(), format!("{options} --json")] {
        let map = dir.run(&format!("map {options} --format {format} {image}"));
        assert!(!map.exits(0).stdout().is_empty());
    }
}

/// How many clusters of an image are allocated, as `qemu-img check` counts them.
fn allocated(dir: &Dir, image: &str) -> u64 {
    let json = qemu::img(dir, &format!("check --output=json -f qcow2 {image}"));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    json["allocated-clusters"].as_u64().unwrap_or(0)
}
