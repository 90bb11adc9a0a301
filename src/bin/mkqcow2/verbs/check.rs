//! `mkqcow2 check`.

use std::path::Path;
use std::process::ExitCode;

use crate::args::check::Check;
use crate::bar::Bar;
use crate::report;
use crate::verb::Verb;
use mkqcow2::check::{Finding, check_legacy};
use mkqcow2::error::Side;
use mkqcow2::formats::Single;

impl Verb for Check {
    fn files(&self) -> Vec<(&'static str, &Path)> {
        vec![("filename", &self.image)]
    }

    fn path(&self, _: Side) -> &Path {
        &self.image
    }

    fn is_json(&self) -> bool {
        self.json.json
    }

    fn run(&self) -> mkqcow2::Result<ExitCode> {
        let bar = Bar::new(self.shown.bar());
        let image = match Single::open(&self.image, self.format.given())? {
            Single::Qcow2(image) => Single::Qcow2(Box::new(image.with_data_file(&self.access())?)),
            Single::Legacy(image) => {
                self.access().refuse_of_legacy()?;
                Single::Legacy(image)
            }
        };
        let mut findings = Vec::new();
        let mut tell = |finding: &Finding| findings.push(finding.clone());
        let report = match &image {
            Single::Qcow2(image) => mkqcow2::check(image, &self.options(), &bar, &mut tell),
            Single::Legacy(image) => check_legacy(image, &self.options(), &bar, &mut tell),
        };
        bar.end();
        Ok(report::check::done(self, &report?, &findings))
    }
}
