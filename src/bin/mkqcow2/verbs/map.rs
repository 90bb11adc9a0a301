//! `mkqcow2 map`.

use std::path::Path;
use std::process::ExitCode;

use crate::args::map::Map;
use crate::report;
use crate::verb::Verb;
use mkqcow2::error::Side;

impl Verb for Map {
    fn files(&self) -> Vec<(&'static str, &Path)> {
        vec![("path", &self.path)]
    }

    fn path(&self, _: Side) -> &Path {
        &self.path
    }

    /// An array that was begun cannot become an object: errors are told on standard error only.
    fn is_json(&self) -> bool {
        false
    }

    fn run(&self) -> mkqcow2::Result<ExitCode> {
        let map = mkqcow2::map::Map::open(&self.path, &self.options())?;
        report::map::map(self, &map)
    }
}
