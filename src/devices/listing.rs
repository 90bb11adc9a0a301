//! The names in a directory.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;

use rustix::fs::Dir;

/// The names in a directory but `.` and `..`, until reading one fails. Not by std, which panics if the directory
/// cannot be closed.
///
/// # Errors
///
/// If the directory cannot be opened for reading.
pub(crate) fn names<D: AsFd>(
    directory: &D,
) -> io::Result<impl Iterator<Item = io::Result<OsString>> + use<D>> {
    let entries = Dir::read_from(directory)?;
    let names = entries.map(|entry| Ok(OsString::from_vec(entry?.file_name().to_bytes().to_vec())));
    Ok(names.filter(|name| !matches!(name, Ok(name) if name == "." || name == "..")))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn all_names_are_told_but_those_of_the_directory_itself() {
        let directory = File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/src/devices")).unwrap();
        let names = names(&directory)
            .unwrap()
            .collect::<io::Result<Vec<_>>>()
            .unwrap();
        let expected = std::fs::read_dir("src/devices").unwrap();
        let mut expected: Vec<_> = expected.map(|entry| entry.unwrap().file_name()).collect();
        let mut found = names;
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        let file = File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
        assert!(super::names(&file).is_err());
    }
}
