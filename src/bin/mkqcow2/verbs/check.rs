//! `mkqcow2 check`.

use std::path::Path;
use std::process::ExitCode;

use super::Verb;
use crate::args::check::Check;
use crate::bar::Bar;
use crate::report;
use mkqcow2::Image;
use mkqcow2::error::Side;

impl Verb for Check {
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
        let image = Image::open(&self.image)?.with_data_file(&self.access())?;
        let bar = Bar::new(self.shown.bar());
        let mut findings = Vec::new();
        let report = mkqcow2::check(&image, &self.options(), &bar, &mut |finding| {
            findings.push(finding.clone());
        });
        bar.end();
        Ok(report::check::done(self, &report?, &findings))
    }
}
