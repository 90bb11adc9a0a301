//! `mkqcow2 info`.

use std::path::Path;
use std::process::ExitCode;

use super::Verb;
use crate::args::info::Info;
use crate::report;
use mkqcow2::error::Side;

impl Verb for Info {
    fn files(&self) -> Vec<(&'static str, &Path)> {
        vec![("image", &self.image)]
    }

    fn path(&self, _: Side) -> &Path {
        &self.image
    }

    fn is_json(&self) -> bool {
        self.json.json
    }

    fn run(&self) -> mkqcow2::Result<ExitCode> {
        let info = mkqcow2::info::Info::read(&self.image)?;
        Ok(report::info::info(self, &info))
    }
}
