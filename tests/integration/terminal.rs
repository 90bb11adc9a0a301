//! What a user sees on a terminal: a bar while the program works, and at the end its result alone.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::damaged::damage;
use crate::support::screen::Screen;
use crate::support::terminal::{Shown, Terminal};
use crate::support::{Dir, MKQCOW2, noise, poke, tool};

const MIB: u64 = 1 << 20;

/// Widths of terminals: the usual one, half of it, and less than a bar needs.
const WIDTHS: [u16; 3] = [80, 40, 20];

/// 8 MiB of data, and its image, with many tables.
fn job(test: &str) -> Dir {
    let dir = Dir::new(&format!("terminal-{test}"));
    dir.sparse("disk.raw", 8 * MIB, &[(0, &noise(7, 8 << 20))]);
    dir.image("--cluster-size 4K");
    tool("strace", ["--version"]);
    dir
}

/// The program with a delay of so many milliseconds in front of each read, and most of a second in front of the sync.
fn slow(dir: &Dir, delay: u32, arguments: &str) -> Command {
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=pread64,fdatasync"])
        .args(["-e", &format!("inject=pread64:delay_enter={delay}ms")])
        .args(["-e", "inject=fdatasync:delay_enter=800ms", MKQCOW2])
        .args(arguments.split_whitespace())
        .current_dir(dir.path());
    command
}

/// A run that restores to a pipe which is not read yet, so that it waits in the middle.
fn held(dir: &Dir, columns: u16, options: &str) -> Terminal {
    let arguments = format!("restore {options} disk.qcow2 -");
    let mut command = dir.command(arguments.split_whitespace());
    command.stdout(Stdio::piped());
    Terminal::start(columns, command, false)
}

/// Reads the pipe to its end.
fn let_go(mut terminal: Terminal) -> Terminal {
    let mut pipe = terminal.child().stdout.take().unwrap();
    thread::spawn(move || pipe.read_to_end(&mut Vec::new()).unwrap());
    terminal
}

/// Whether something is drawn.
fn has_bar(screen: &Screen) -> bool {
    screen.lines().iter().any(|line| line.contains('%'))
}

/// What is drawn has a row for itself, whatever the width of the terminal.
#[track_caller]
fn assert_fits(shown: &Shown, width: u16) {
    for drawn in &shown.drawn {
        assert_eq!(drawn.rows, 1, "{width}: {drawn:?}");
        assert!(drawn.text.chars().count() < width.into(), "{width}: {drawn:?}");
    }
}

/// Every number has all of its unit, and no time is told that is not known.
#[track_caller]
fn assert_is_whole(line: &str) {
    let units = ["B", "KiB", "MiB", "GiB", "B/s", "KiB/s", "MiB/s", "GiB/s"];
    let words: Vec<_> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    for (number, word) in words.iter().enumerate() {
        let is_amount = word.starts_with(|first: char| first.is_ascii_digit())
            && word.chars().all(|other| other.is_ascii_digit() || other == '.');
        if is_amount {
            let unit = words.get(number + 1).copied().unwrap_or_default();
            assert!(units.contains(&unit), "{line:?}");
        }
    }
    let fraction = line.split_once(" of ");
    if let Some((done, total)) = fraction {
        assert!(bytes(done, true) <= bytes(total, false), "{line:?}");
    }
    assert!(!line.contains(" 0s left"), "{line:?}");
}

/// An amount at the end or the beginning of a text.
fn bytes(text: &str, at_end: bool) -> f64 {
    let words: Vec<_> = text.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let from = if at_end { words.len() - 2 } else { 0 };
    let (number, unit) = (words[from], words[from + 1]);
    let power = ["B", "KiB", "MiB", "GiB"].iter().position(|known| *known == unit);
    number.parse::<f64>().unwrap() * 1024_f64.powi(power.unwrap().try_into().unwrap())
}

/// Runs it on terminals of all widths. What is left are lines that begin like these; each of the words was drawn.
#[track_caller]
fn leaves_its_result(dir: &Dir, delay: u32, arguments: &str, words: &[&str], lines: &[&str]) {
    thread::scope(|scope| {
        for width in WIDTHS {
            scope.spawn(move || {
                let arguments = arguments.replace("TARGET", &format!("copy-{width}"));
                let lines: Vec<_> = lines
                    .iter()
                    .map(|line| line.replace("TARGET", &format!("copy-{width}")))
                    .collect();
                let lines: Vec<_> = lines.iter().map(String::as_str).collect();
                let shown = Terminal::start(width, slow(dir, delay, &arguments), true)
                    .ends()
                    .exits(0)
                    .leaves(&lines);
                assert_fits(&shown, width);
                shown.drawn().for_each(assert_is_whole);
                for word in words {
                    assert!(shown.drawn().any(|line| line.contains(word)), "{word} {shown:#?}");
                }
            });
        }
    });
}

#[test]
fn an_image_that_was_made_leaves_its_result_only() {
    let dir = job("create");
    let words = ["preparing", "copying", "%", "syncing"];
    leaves_its_result(
        &dir,
        25,
        "disk.raw TARGET",
        &words,
        &["TARGET: 8.00 MiB source ("],
    );
}

#[test]
fn a_disk_that_was_restored_and_verified_leaves_its_result_only() {
    let dir = job("restore");
    let words = ["copying", "%", "syncing", "verifying"];
    leaves_its_result(
        &dir,
        40,
        "restore --verify disk.qcow2 TARGET",
        &words,
        &["TARGET: 8.00 MiB disk, "],
    );
}

#[test]
fn an_image_that_was_verified_leaves_its_result_only() {
    let dir = job("verify");
    let words = ["verifying", "%", "checking"];
    leaves_its_result(&dir, 60, "verify disk.qcow2", &words, &["disk.qcow2: "]);
}

#[test]
fn an_image_that_was_checked_leaves_its_result_only() {
    let dir = job("check");
    let words = ["checking"];
    leaves_its_result(
        &dir,
        150,
        "check disk.qcow2",
        &words,
        &["disk.qcow2: no errors, no leaks", "2048 of 2048 clusters"],
    );
}

#[test]
fn two_disks_that_were_compared_leave_the_result_only() {
    let dir = job("compare");
    let words = ["comparing", "%"];
    leaves_its_result(
        &dir,
        40,
        "compare disk.raw disk.qcow2",
        &words,
        &["disk.raw and disk.qcow2 are equal"],
    );
}

#[test]
fn what_a_comparison_lists_stands_on_lines_of_its_own() {
    let dir = job("list");
    std::fs::copy(dir.join("disk.raw"), dir.join("other.raw")).unwrap();
    for mib in [1, 4, 7] {
        poke(&dir.join("other.raw"), mib * MIB, &[1; 512]);
    }
    let command = slow(&dir, 50, "compare --all disk.raw other.raw");
    let shown = Terminal::start(80, command, true).ends().exits(1).leaves(&[
        "0x000000100000              512",
        "0x000000400000              512",
        "0x000000700000              512",
        "disk.raw and other.raw differ, first at 0x100000: 1536 bytes in 3 ranges",
    ]);
    assert!(shown.drawn().any(|line| line.contains("comparing")), "{shown:#?}");
}

#[test]
fn the_bar_tells_how_much_is_done_how_fast_and_how_long_it_takes_yet() {
    let dir = job("fields");
    let command = slow(&dir, 60, "compare disk.raw disk.qcow2");
    let shown = Terminal::start(80, command, true).ends().exits(0);
    let is_full = |line: &str| {
        ["comparing ", "% [#", " of 8.00 MiB, ", "iB/s, ", "s left"]
            .iter()
            .all(|field| line.contains(field))
    };
    assert!(shown.drawn().any(is_full), "{shown:#?}");
    let at_first = shown.drawn().find(|line| line.contains(" 0%"));
    assert!(
        at_first.is_none_or(|line| !line.contains("left")),
        "nothing is done, and nothing is known: {shown:#?}"
    );
}

#[test]
fn quiet_runs_draw_nothing() {
    let dir = job("quiet");
    thread::scope(|scope| {
        for arguments in [
            "-q disk.raw copy.qcow2",
            "restore -q disk.qcow2 copy.raw",
            "verify -q disk.qcow2",
            "compare -q disk.raw disk.qcow2",
        ] {
            let command = slow(&dir, 20, arguments);
            scope.spawn(move || {
                let shown = Terminal::start(80, command, true).ends().exits(0).leaves(&[]);
                assert!(shown.drawn.is_empty(), "{arguments}: {shown:#?}");
            });
        }
    });
}

#[test]
fn a_terminal_that_cannot_move_its_cursor_gets_lines_if_they_are_asked_for() {
    let dir = job("dumb");
    let lines = ["mkqcow2: copying 0%, ", "mkqcow2: standard output: "];
    thread::scope(|scope| {
        for (options, lines) in [("", &lines[1..]), ("-p", &lines)] {
            let arguments = format!("restore {options} disk.qcow2 -");
            let mut command = dir.command(arguments.split_whitespace());
            command.env("TERM", "dumb").stdout(Stdio::piped());
            scope.spawn(move || {
                let waiting = Terminal::start(80, command, false).look_for(Duration::from_secs(6));
                let shown = let_go(waiting).ends().exits(0).leaves(lines);
                assert!(shown.drawn.is_empty(), "{shown:#?}");
            });
        }
    });
}

#[test]
fn a_terminal_that_becomes_narrower_or_wider_keeps_nothing_of_the_bar() {
    let dir = job("resized");
    let mut terminal = held(&dir, 80, "").until("a bar", has_bar);
    for width in [40, 20, 33, 100, 21] {
        terminal = terminal
            .resize(width)
            .until("a line that fits", |screen| {
                let lines = screen.lines();
                lines
                    .iter()
                    .any(|line| line.contains('%') && line.len() < width.into())
            })
            .look_for(Duration::from_millis(500));
    }
    let_go(terminal)
        .ends()
        .exits(0)
        .leaves(&["mkqcow2: standard output: 8.00 MiB disk, "]);
}

#[test]
fn a_run_that_is_stopped_leaves_a_word_about_that_only() {
    let dir = job("stopped");
    held(&dir, 80, "")
        .until("a bar", has_bar)
        .send(Signal::INT)
        .ends()
        .dies_of(Signal::INT)
        .leaves(&["mkqcow2: standard output: stopped by SIGINT, incomplete"]);
}

#[test]
fn a_run_that_fails_leaves_its_error_only() {
    let dir = job("failed");
    let image = dir.join("disk.qcow2");
    damage(&image, 2040);
    let command = slow(&dir, 40, "restore disk.qcow2 copy");
    let shown = Terminal::start(80, command, true)
        .ends()
        .exits(1)
        .leaves(&["mkqcow2: disk.qcow2: "]);
    assert!(shown.drawn().any(|line| line.contains('%')), "{shown:#?}");

    // Before there is anything to be done.
    File::options()
        .write(true)
        .open(&image)
        .unwrap()
        .set_len(100)
        .unwrap();
    for arguments in ["restore disk.qcow2 copy", "compare disk.qcow2 disk.raw"] {
        let shown = Terminal::start(80, slow(&dir, 250, arguments), true).ends();
        assert_eq!(shown.lines.len(), 1, "{shown:#?}");
    }
}

#[test]
fn a_verbose_run_tells_its_plan_on_lines_of_its_own() {
    let dir = job("verbose");
    let shown = Terminal::start(100, slow(&dir, 20, "-v disk.raw copy"), true)
        .ends()
        .exits(0);
    let lines = shown.leaves(&[
        "disk.raw: regular file, 8388608 bytes (8.00 MiB): 8.00 MiB data",
        "copy: ",
        "0x000000000000          8388608  source: ",
        "copy: 8.00 MiB source",
        "clusters of 65536 bytes with data: 128",
    ]);
    assert!(lines.drawn().any(|line| line.contains("preparing")), "{lines:#?}");
}

#[test]
fn lines_elsewhere_come_every_five_seconds_whatever_the_work_waits_for() {
    let dir = job("lines");
    let mut command = dir.command(["restore", "-p", "disk.qcow2", "-"]);
    let errors = File::create(dir.join("errors")).unwrap();
    let mut child = command.stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
    thread::sleep(Duration::from_secs(11));
    let mut pipe = child.stdout.take().unwrap();
    pipe.read_to_end(&mut Vec::new()).unwrap();
    assert!(child.wait().unwrap().success());
    let said = read(&dir.join("errors"));
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    for line in &lines[..2] {
        assert!(line.starts_with("mkqcow2: copying "), "{said}");
        assert!(line.contains(" of 8.00 MiB"), "{said}");
        assert_is_whole(line);
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
