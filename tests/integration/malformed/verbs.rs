//! What every command makes of a malformed image: words and a status, whatever is in it; and no more memory than
//! its share.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::{Altered, Elsewhere, Good, Mismatch, Reads, Refused, RefusedOrReads, Row, each, rows};
use crate::corpus::first_difference;
use crate::mount::served::unmount;
use crate::support::{MKQCOW2, root};

/// A command that reads an image.
#[derive(Clone, Copy)]
struct Verb {
    name: &'static str,
    /// In front of the image. Only what is named here is taken for an image whatever it begins with.
    options: &'static [&'static str],
    /// Whether it takes `--follow`.
    follows: bool,
    /// Behind the image.
    more: &'static [&'static str],
    /// How it may end.
    statuses: &'static [i32],
}

const VERBS: [Verb; 6] = [
    Verb {
        name: "restore",
        options: &["--no-sync"],
        follows: true,
        more: &["target.raw"],
        statuses: &[0, 1, 3],
    },
    Verb {
        name: "check",
        options: &["--data"],
        follows: false,
        more: &[],
        statuses: &[0, 1, 2, 3],
    },
    Verb {
        name: "verify",
        options: &[],
        follows: false,
        more: &[],
        statuses: &[0, 1, 2],
    },
    Verb {
        name: "info",
        options: &[],
        follows: false,
        more: &[],
        statuses: &[0, 1],
    },
    Verb {
        name: "map",
        options: &["--format", "qcow2"],
        follows: true,
        more: &[],
        statuses: &[0, 1],
    },
    Verb {
        name: "compare",
        options: &["--format-a", "qcow2"],
        follows: true,
        more: &["good.raw"],
        statuses: &[0, 1, 2],
    },
];

const MOUNT: Verb = Verb {
    name: "mount",
    options: &["--format", "qcow2"],
    follows: true,
    more: &["point"],
    statuses: &[0, 1],
};

/// The memory that a run may take, in bytes: beyond that the system gives it none.
const MEMORY: u64 = 128 << 20;

#[test]
fn no_malformed_image_passes_for_a_good_one() {
    each("malformed", rows, |row, good, dir| {
        let mut findings = Vec::new();
        let runs = VERBS.map(|verb| {
            let output = verb.run(dir, row);
            findings.extend(verb.misbehaved(&output));
            output
        });
        let restored = std::fs::read(dir.join("target.raw")).ok();
        findings.extend(row.misjudged(&runs, restored.as_deref(), good));
        if !matches!(row.outcome, Elsewhere(_)) {
            findings.extend(laxer_than_qemu(dir, &runs[1]));
        }
        findings
    });
}

#[test]
fn a_malformed_image_that_is_mounted_reads_as_it_is_restored_or_not_at_all_as_root() {
    root::needed();
    each("malformed-mounted", rows, |row, _, dir| {
        let point = dir.join("point");
        std::fs::create_dir(&point).unwrap();
        let [restore, mount] = [VERBS[0], MOUNT].map(|verb| {
            let output = verb.run(dir, row);
            (output.status.success(), verb.misbehaved(&output))
        });
        let mut findings: Vec<_> = restore.1.into_iter().chain(mount.1).collect();
        if mount.0 {
            let shown = std::fs::read(point.join("disk.raw"));
            unmount(&point);
            let restored = std::fs::read(dir.join("target.raw"));
            match (shown, restored) {
                (Ok(shown), Ok(restored)) => findings.extend(first_difference(&shown, &restored)),
                (Ok(_), Err(_)) => findings.push("it is mounted and read, and cannot be restored".to_owned()),
                (Err(error), _) if error.raw_os_error() != Some(5) => findings.push(error.to_string()),
                (Err(_), _) => {}
            }
        }
        findings
    });
}

impl Verb {
    /// Runs it on the damaged image with no more memory than it may take.
    fn run(&self, dir: &Path, row: &Row) -> Output {
        let needs_others = !row.base.arguments().is_empty();
        Command::new("prlimit")
            .args([&format!("--data={MEMORY}"), "--core=0", MKQCOW2, self.name])
            .args(self.options)
            .args(
                row.base
                    .arguments()
                    .iter()
                    .filter(|_| self.follows && needs_others),
            )
            .arg("bad.qcow2")
            .args(self.more)
            .current_dir(dir)
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("prlimit: {error}: apt-get install util-linux"))
    }

    /// What no image may make a program do.
    fn misbehaved(&self, output: &Output) -> Option<String> {
        let said = stderr(output);
        let is_one_of_ours = output
            .status
            .code()
            .is_some_and(|code| self.statuses.contains(&code));
        let is_calm = !said.contains("panicked") && !said.contains("memory allocation");
        let is_told = output.status.success() || !said.is_empty() || !output.stdout.is_empty();
        let is_terminal_safe = !output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b);
        let is_fine = is_one_of_ours && is_calm && is_told && is_terminal_safe;
        (!is_fine).then(|| format!("{}: {}\n    {said}", self.name, output.status))
    }
}

impl Row {
    /// What the outcome of the verbs should not have been.
    fn misjudged(&self, runs: &[Output; 6], restored: Option<&[u8]>, good: &Good) -> Vec<String> {
        let [restore, check, verify, _, _, compare] = runs;
        let said = stderr(restore);
        let difference = restored.and_then(|restored| first_difference(restored, &good.raw));
        // 3 if the image is marked as corrupt.
        let restores = matches!(restore.status.code(), Some(0 | 3)) && restored.is_some();
        let status = |output: &Output| output.status.code();
        let not_restored = |words: &str| {
            vec![
                (status(restore) == Some(1), "restore: is not refused".to_owned()),
                (said.contains(words), format!("restore: expected {words:?}")),
                (restored.is_none(), "restore: a target is left".to_owned()),
            ]
        };
        let refused = |words: &str| {
            let mut all = not_restored(words);
            all.push((status(compare) != Some(0), "compare: equal".to_owned()));
            all.push((status(verify) != Some(0), "verify: passes".to_owned()));
            all.push((status(check) != Some(0), "check: passes".to_owned()));
            all
        };
        let mismatch = |words: &str| {
            let told = stderr(verify) + &String::from_utf8_lossy(&verify.stdout);
            let mut all = not_restored(words);
            all.push((
                told.contains(words),
                format!("verify: expected {words:?}: {told}"),
            ));
            all.push((status(verify) != Some(0), "verify: passes".to_owned()));
            all
        };
        let reads = || {
            vec![
                (restores, "restore: is refused".to_owned()),
                (difference.is_none(), format!("restore: {difference:?}")),
                (status(compare) == Some(0), "compare: differs".to_owned()),
            ]
        };
        let expected = match self.outcome {
            Refused(words) => refused(words),
            Reads(expected) => {
                let mut all = reads();
                let found = status(check);
                all.push((
                    found == Some(expected),
                    format!("check: {found:?}, expected {expected}"),
                ));
                all
            }
            Altered(expected) => vec![
                (restores, "restore: is refused".to_owned()),
                (difference.is_some(), "restore: nothing was altered".to_owned()),
                (
                    status(check) == Some(expected),
                    format!("check: {:?}", status(check)),
                ),
            ],
            Elsewhere(words) => not_restored(words),
            Mismatch(words) => mismatch(words),
            RefusedOrReads(_) if said.contains("checksum table") => mismatch("checksum table"),
            RefusedOrReads(words) if status(restore) == Some(1) => {
                let word = words.iter().find(|word| said.contains(**word));
                refused(word.unwrap_or(&words[0]))
            }
            RefusedOrReads(_) => reads(),
        };
        let wrong = expected.into_iter().filter(|(is_so, _)| !is_so);
        wrong.map(|(_, what)| format!("{what}\n    {said}")).collect()
    }
}

/// `check` finds fault wherever qemu-img does, which looks at other files as well.
fn laxer_than_qemu(dir: &Path, ours: &Output) -> Option<String> {
    let mut theirs = Command::new("qemu-img");
    let theirs = theirs.args(["check", "-q", "-f", "qcow2", "bad.qcow2"]);
    let theirs = theirs.current_dir(dir).stdin(Stdio::null()).output().unwrap();
    let is_laxer = !theirs.status.success() && ours.status.success();
    is_laxer.then(|| {
        format!(
            "check: clean, but to qemu-img {}: {}",
            theirs.status,
            stderr(&theirs)
        )
    })
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
