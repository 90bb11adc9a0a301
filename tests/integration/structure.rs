//! How the source is laid out: which file takes what from which, and how long files are.

mod circles;
mod module;
mod source;
mod tree;

use std::fs;
use std::path::Path;

use circles::{arrow, circles};
use tree::{Files, Tree};

/// How many lines a file may have without its tests.
const LINES: usize = 500;

/// The crates, and the files that they begin with.
const CRATES: [(&str, &str); 2] = [("mkqcow2", "src/lib.rs"), ("program", "src/bin/mkqcow2/main.rs")];

/// All files of the source.
fn sources() -> Files {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut files, mut folders) = (Files::new(), vec![project.join("src")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(project).unwrap().to_str().unwrap();
                files.insert(name.to_owned(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}

/// The modules of files that are made up, and of which the first is a library.
fn made_up(files: &[(&str, &str)]) -> Tree {
    let all = files.iter();
    let all = all.map(|(name, source)| ((*name).to_owned(), (*source).to_owned()));
    let has_program = files.iter().any(|(name, _)| *name == CRATES[1].1);
    let crates = if has_program { &CRATES[..] } else { &CRATES[..1] };
    Tree::read(&all.collect(), crates)
}

fn arrows(tree: &Tree) -> Vec<String> {
    let imports = tree.imports();
    imports.iter().map(arrow).collect()
}

#[test]
fn no_imports_go_in_circles() {
    let imports = Tree::read(&sources(), &CRATES).imports();
    assert!(imports.len() > sources().len(), "most imports are not seen");

    let circles = circles(&imports);

    let told = circles.join("\n  ");
    assert!(circles.is_empty(), "imports go in circles:\n  {told}");
}

#[test]
fn modules_take_from_those_that_the_library_declares_above_them() {
    let tree = Tree::read(&sources(), &CRATES);
    let declared = tree.declared("mkqcow2");
    let place = |file: &str| {
        let is_in = |module: &&str| {
            let rest = file.strip_prefix(module.trim_end_matches(".rs"));
            rest.is_some_and(|rest| rest.starts_with(['.', '/']))
        };
        declared.iter().position(is_in)
    };

    let imports = tree.imports();
    let goes_up = |(taker, giver): &(String, String)| match (place(taker), place(giver)) {
        (Some(taker), Some(giver)) => taker < giver,
        _ => false,
    };
    let upwards = imports.iter().filter(|(files, _)| goes_up(files));
    let upwards: Vec<_> = upwards.map(arrow).collect();

    let told = upwards.join("\n  ");
    assert!(upwards.is_empty(), "declared in another order:\n  {told}");
}

#[test]
fn files_are_short_without_their_tests() {
    let lines = sources().into_iter();
    let lines = lines.map(|(file, source)| (file, source::lines(&source)));
    let too_long: Vec<_> = lines.filter(|(_, lines)| *lines > LINES).collect();
    assert!(
        too_long.is_empty(),
        "more than {LINES} lines without tests: {too_long:?}"
    );
}

#[test]
fn a_circle_is_told_with_what_each_file_takes() {
    let tree = made_up(&[
        ("src/lib.rs", "mod a; mod b; mod c; pub use a::Thing;"),
        ("src/a.rs", "mod part; pub use part::Thing;"),
        ("src/a/part.rs", "pub struct Thing(crate::b::Other);"),
        ("src/b.rs", "use crate::c::{One, Two}; pub struct Other;"),
        ("src/c.rs", "use crate::Thing; pub struct One; pub struct Two;"),
    ]);
    assert_eq!(
        circles(&tree.imports()),
        [
            "src/a/part.rs takes Other from src/b.rs",
            "src/b.rs takes One, Two from src/c.rs",
            "src/c.rs takes Thing from src/a/part.rs",
        ]
    );
}

#[test]
fn a_parent_that_only_hands_on_what_its_child_has_does_not_take_it() {
    let child = "use super::Parent; pub struct Thing;";
    let hands_on = "mod child; pub(crate) use child::Thing; pub struct Parent;";
    let takes = format!("{hands_on} fn needs(_: Thing) {{}}");
    for (parent, circles_expected) in [(hands_on, 0), (takes.as_str(), 2)] {
        let tree = made_up(&[
            ("src/lib.rs", "mod parent;"),
            ("src/parent.rs", parent),
            ("src/parent/child.rs", child),
        ]);
        assert_eq!(circles(&tree.imports()).len(), circles_expected, "{parent}");
    }
}

#[test]
fn imports_are_seen_however_they_are_written() {
    let tree = made_up(&[
        ("src/lib.rs", "pub mod a; mod b; pub use a::a;"),
        (
            "src/a.rs",
            "pub mod deep { pub struct Inner; fn x() { super::super::b::upper() } }
             pub struct Thing; pub fn a() {} pub fn apart() {} pub struct Kept; pub struct Last;",
        ),
        (
            "src/b.rs",
            "use crate::a::{self as other, Thing as Named, deep::Inner};
             fn all(_: impl Fn() + use<>) -> [u8; 2] { crate::a(); other::apart(); ..super::a::Kept }
             pub(in crate::b) fn upper<'a>(x: &'a str) { x.a::<'a'>() }",
        ),
        (
            "src/bin/mkqcow2/main.rs",
            "use mkqcow2::a::Last; fn main() { mkqcow2::a() }",
        ),
    ]);
    assert_eq!(
        arrows(&tree),
        [
            "src/a.rs takes upper from src/b.rs",
            "src/b.rs takes Inner, Kept, Thing, a, apart from src/a.rs",
            "src/bin/mkqcow2/main.rs takes Last, a from src/a.rs",
        ]
    );
}

#[test]
fn comments_text_and_tests_take_nothing() {
    let tree = made_up(&[
        ("src/lib.rs", "mod a; mod b; #[cfg(test)] mod only_tests;"),
        ("src/a.rs", "pub struct Thing;"),
        (
            "src/b.rs",
            concat!(
                "//! [`crate::a::Thing`]\n/* crate::a::Thing */",
                r#"const A: &str = "\"crate::a::Thing"; const QUOTES: [char; 2] = ['"', '\''];"#,
                "const B: &str = r#\"crate::a::Thing\"\"#;",
                "#[cfg(test)] use crate::a::Thing;",
                "#[cfg(test)] #[derive(Debug)] struct Fake { thing: [crate::a::Thing; 2] }",
                "#[cfg(test)] mod tests { use crate::a::Thing; }",
            ),
        ),
    ]);
    assert_eq!(arrows(&tree), [""; 0]);
}

#[test]
fn lines_are_counted_up_to_the_tests() {
    let code = "struct A;\n#[cfg(test)]\nfn helper() {}\n";
    let tests = "\n#[cfg(test)]\n#[expect(x)]\nmod tests {\n}\n";
    assert_eq!(source::lines(code), 3);
    assert_eq!(source::lines(&format!("{code}{tests}")), 4);
}
