//! `mkqcow2 verify`.

use std::path::Path;
use std::process::ExitCode;

use crate::args::verify::Verify;
use crate::bar::Bar;
use crate::report;
use crate::verb::Verb;
use mkqcow2::Error;
use mkqcow2::error::Side;

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
        let report = mkqcow2::verify::verify(&self.image, self.options(), &bar);
        bar.end();
        Ok(report::verify::done(self, &report?))
    }
}
