//! What is written for people is true: the manual page, the README and the changelog, held against the program.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Dir, tool};

#[test]
fn the_manual_page_has_the_options_of_help_and_no_other() {
    let dir = Dir::new("manual-options");
    let help = options_of_help(&dir.run("--help").exits(0).stdout());
    let page = options_of_page(&read("man/mkqcow2.8"));

    let missing: Vec<_> = help.difference(&page).collect();
    let stale: Vec<_> = page.difference(&help).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "only in --help: {missing:?}, only in the page: {stale:?}"
    );
    assert!(help.contains("-j, --threads <N>"), "{help:?}");
}

#[test]
fn the_manual_page_is_clean() {
    let page = in_project("man/mkqcow2.8");
    tool("mandoc", ["-T", "lint", "-W", "warning", page.to_str().unwrap()]);
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

/// A closing line up to the image's size: how long it took and what is in use (holes, if the sample was copied
/// by a program that makes some) differ from one machine to the other.
fn without_numbers_of_the_day(line: &str) -> Vec<&str> {
    let fields = line.split(", ").take(3);
    fields.filter(|field| !field.ends_with(" in use")).collect()
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

/// The options that the page has items for, spelt in the same way: from `.It Fl j , -threads Ar N`.
fn options_of_page(page: &str) -> BTreeSet<String> {
    let section = page
        .lines()
        .skip_while(|line| *line != ".Sh OPTIONS")
        .skip(1)
        .take_while(|line| !line.starts_with(".Sh "));
    let items = section.filter_map(|line| line.strip_prefix(".It Fl "));
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

fn read(path: &str) -> String {
    fs::read_to_string(in_project(path)).unwrap()
}

fn in_project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
