//! `mkqcow2 verify`.

use std::path::Path;
use std::process::ExitCode;

use crate::args::verify::Verify;
use crate::bar::Bar;
use crate::report;
use crate::report::verify::Reports;
use crate::verb::Verb;
use mkqcow2::Error;
use mkqcow2::error::Side;
use mkqcow2::formats::{Bases, Single};
use mkqcow2::verify::{verify_opened, verify_qcow2};

impl Verb for Verify {
    /// A damaged header is what was looked for.
    fn failure(error: &Error) -> u8 {
        if matches!(error, Error::Corrupt(_)) {
            report::verify::DAMAGE
        } else {
            Self::FAILURE
        }
    }

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
        let result = self.reports(&bar);
        bar.end();
        Ok(report::verify::done(self, &result?))
    }
}

impl Verify {
    /// Of the image, and of all that it stands on.
    fn reports(&self, bar: &Bar) -> mkqcow2::Result<Reports> {
        let image = Single::open(&self.image, self.options().format)?;
        let own = verify_opened(&image, self.options(), bar)?;
        let mut reports = Reports {
            own,
            bases: Vec::new(),
            fault: None,
        };
        let Single::Qcow2(image) = &image else {
            return Ok(reports);
        };
        if self.only {
            return Ok(reports);
        }
        let bases = Bases::of(image, self.follow)?;
        for (path, image) in bases.images {
            let report = verify_qcow2(&image, self.options(), bar).map_err(|error| error.elsewhere(&path))?;
            reports.bases.push((path, report));
        }
        reports.fault = bases.fault;
        Ok(reports)
    }
}
