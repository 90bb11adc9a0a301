//! What is written for people is true: the manual pages, the README and the changelog, held against the program.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Dir, commands, tool};

/// A manual page: of the program, or of a command.
struct Page {
    path: PathBuf,
    /// Its name in SEE ALSO: `mkqcow2-info`.
    name: String,
    /// The word of its command; empty for that of the program.
    command: String,
    text: String,
}

impl Page {
    fn all() -> Vec<Self> {
        let entries = fs::read_dir(in_project("man")).unwrap();
        entries.map(|entry| Self::at(entry.unwrap().path())).collect()
    }

    fn at(path: PathBuf) -> Self {
        let file = path.file_name().unwrap().to_str().unwrap();
        let name = file.strip_suffix(".8").unwrap().to_owned();
        let command = name.strip_prefix("mkqcow2").unwrap().trim_start_matches('-');
        Self {
            command: command.to_owned(),
            text: fs::read_to_string(&path).unwrap(),
            name,
            path,
        }
    }

    fn of_the_program() -> Self {
        Self::at(in_project("man/mkqcow2.8"))
    }

    fn section(&self, name: &str) -> impl Iterator<Item = &str> {
        let heading = format!(".Sh {name}");
        let lines = self.text.lines().skip_while(move |line| *line != heading);
        lines.skip(1).take_while(|line| !line.starts_with(".Sh "))
    }

    fn refers_to(&self, other: &Self) -> bool {
        let reference = format!(".Xr {} 8", other.name);
        self.section("SEE ALSO")
            .any(|line| line.trim_end_matches(" ,") == reference)
    }

    /// The options that the page has items for, spelt as help does: from `.It Fl j , -threads Ar N`.
    fn options(&self) -> BTreeSet<String> {
        let items = self
            .section("OPTIONS")
            .filter_map(|line| line.strip_prefix(".It Fl "));
        items
            .map(|item| {
                let (names, value) = item
                    .split_once(" Ar ")
                    .map_or((item, String::new()), |(names, value)| {
                        (names, format!(" <{value}>"))
                    });
                format!("-{}{value}", names.replace(" , ", ", -"))
            })
            .collect()
    }

    /// What the program wants to be given besides options, in this order.
    fn operands(&self) -> Vec<&str> {
        // Those of other commands follow.
        let lines = self.section("SYNOPSIS").skip(1);
        let operands = lines
            .take_while(|line| !line.starts_with(".Nm"))
            .filter_map(|line| line.strip_prefix(".Ar "));
        operands.collect()
    }
}

#[test]
fn every_command_has_a_manual_page_and_every_page_a_command() {
    let mut pages: Vec<_> = Page::all().into_iter().map(|page| page.command).collect();
    pages.sort();
    let mut expected = commands();
    expected.push(String::new());
    expected.sort();
    assert_eq!(pages, expected);
}

#[test]
fn the_manual_pages_have_the_options_of_help_and_no_others() {
    let dir = Dir::new("manual-options");
    for page in Page::all() {
        let help = dir.run(&format!("{} --help", page.command)).exits(0).stdout();
        let (help, page_has) = (options_of_help(&help), page.options());
        let missing: Vec<_> = help.difference(&page_has).collect();
        let stale: Vec<_> = page_has.difference(&help).collect();
        assert!(
            missing.is_empty() && stale.is_empty(),
            "{}: only in --help: {missing:?}, only in the page: {stale:?}",
            page.name
        );
        assert!(help.contains("-h, --help"), "{}: {help:?}", page.name);
    }
    assert!(Page::of_the_program().options().contains("-j, --threads <N>"));
}

#[test]
fn the_manual_pages_have_the_operands_of_help() {
    let dir = Dir::new("manual-operands");
    for page in Page::all() {
        let help = dir.run(&format!("{} --help", page.command)).exits(0).stdout();
        let usage = help
            .lines()
            .find_map(|line| line.split_once("[OPTIONS] "))
            .unwrap();
        assert_eq!(page.operands().join(" "), usage.1, "{}", page.name);
        assert_eq!(
            usage.0.trim_end(),
            format!("Usage: mkqcow2 {}", page.command).trim_end()
        );
    }
}

#[test]
fn the_manual_pages_are_clean() {
    for page in Page::all() {
        tool(
            "mandoc",
            ["-T", "lint", "-W", "warning", page.path.to_str().unwrap()],
        );
        let title = format!(".Dt {} 8", page.name.to_uppercase());
        assert!(page.text.lines().any(|line| line == title), "{title}");
    }
}

#[test]
fn no_quotes_of_the_manual_pages_are_nested() {
    for page in Page::all() {
        let shown = tool("mandoc", ["-T", "utf8", page.path.to_str().unwrap()]);
        let nested = shown
            .split('\u{2018}')
            .skip(1)
            .find(|text| !text.contains('\u{2019}'));
        assert_eq!(
            nested, None,
            "{}: a quote that is not closed before the next",
            page.name
        );
    }
}

#[test]
fn the_manual_pages_tell_exit_statuses_and_examples() {
    for page in Page::all() {
        for section in ["EXIT STATUS", "EXAMPLES"] {
            assert!(page.section(section).next().is_some(), "{}: {section}", page.name);
        }
    }
}

#[test]
fn the_manual_pages_refer_to_each_other() {
    let program = Page::of_the_program();
    for page in Page::all().iter().filter(|page| !page.command.is_empty()) {
        assert!(page.refers_to(&program), "{}", page.name);
        assert!(program.refers_to(page), "{}", page.name);
    }
}

#[test]
fn the_newest_version_in_the_changelog_is_that_of_the_package() {
    let changelog = read("CHANGELOG.md");
    let newest = changelog
        .lines()
        .find_map(|line| line.strip_prefix("## ["))
        .unwrap();
    let (version, _) = newest.split_once(']').unwrap();
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
}

#[test]
fn what_contributors_are_told_of_is_there() {
    let text = read("CONTRIBUTING.md");
    let words = text.split('`').skip(1).step_by(2);
    let is_path = |word: &&str| {
        ["src/", "tests/", "fuzz/", "benches/", "testdata/", ".ci/"]
            .iter()
            .any(|top| word.starts_with(top))
    };
    // What is to be made anew has a name in angle brackets.
    let paths: Vec<_> = words
        .filter(is_path)
        .map(|word| word.split(' ').next().unwrap())
        .filter(|path| !path.contains('<'))
        .collect();
    assert!(paths.len() > 9, "{paths:?}");
    for path in paths {
        assert!(in_project(path).exists(), "{path}");
    }
}

#[test]
fn the_first_command_of_the_readme_images_a_sample_that_exists() {
    let readme = read("README.md");
    let command = readme
        .lines()
        .find(|line| line.starts_with("cargo run --release -- "))
        .unwrap();
    let source = command.split(' ').nth(4).unwrap();
    assert!(source.starts_with("testdata/"), "{command}");
    assert!(in_project(source).is_file(), "{command}");
}

#[test]
fn the_readme_shows_what_the_program_says() {
    let readme = read("README.md");
    let shown = line_after(&readme, "$ mkqcow2 testdata/ext4.raw backup.qcow2");
    let dir = Dir::new("manual-readme");
    let sample = in_project("testdata/ext4.raw");

    let run = dir
        .run_with([sample.as_path(), Path::new("backup.qcow2")])
        .exits(0);

    assert_eq!(
        without_numbers_of_the_day(shown),
        without_numbers_of_the_day(&run.stdout())
    );
}

#[test]
fn the_readme_shows_what_is_recognised_in_the_sample() {
    let readme = read("README.md");
    let shown = line_after(&readme, "$ mkqcow2 map --regions testdata/ext4.raw");
    let sample = in_project("testdata/ext4.raw");

    let run = Dir::new("manual-regions")
        .run_with([Path::new("map"), Path::new("--regions"), &sample])
        .exits(0);

    assert_eq!(without_holes(shown), without_holes(run.stdout().trim_end()));
}

/// A line of a region; which of it are holes depends on what made the copy of the sample.
fn without_holes(line: &str) -> String {
    let (front, rest) = line.split_once(" in use").unwrap();
    let rest = rest.split_once(')').map_or(rest, |(_, behind)| behind);
    format!("{front} in use{rest}")
}

/// A closing line up to the image's size: how long it took, and how much of it is zeros (holes, if the sample was copied
/// by a program that makes some), differ from one machine to the other.
fn without_numbers_of_the_day(line: &str) -> (&str, &str, &str) {
    let (source, rest) = line.split_once(" (").unwrap();
    let (states, rest) = rest.split_once("), ").unwrap();
    let (_, free) = states.rsplit_once(", ").unwrap();
    (source, free, rest.split_once(',').unwrap().0)
}

fn line_after<'a>(text: &'a str, command: &str) -> &'a str {
    text.lines().skip_while(|line| *line != command).nth(1).unwrap()
}

/// The options as `--help` spells them: `-j, --threads <N>`.
fn options_of_help(help: &str) -> BTreeSet<String> {
    let lines = help
        .lines()
        .skip_while(|line| *line != "Options:")
        .map(str::trim_start);
    let options = lines.filter(|line| line.starts_with('-'));
    // The description follows after two spaces or more, or on the next line.
    options
        .map(|line| line.split("  ").next().unwrap().to_owned())
        .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(in_project(path)).unwrap()
}

fn in_project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
