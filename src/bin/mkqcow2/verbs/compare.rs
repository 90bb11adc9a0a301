//! `mkqcow2 compare`.

use std::path::Path;
use std::process::ExitCode;

use crate::args::compare::Compare;
use crate::bar::Bar;
use crate::report;
use crate::verb::Verb;
use mkqcow2::error::Side;
use mkqcow2::{Comparison, Error};

impl Verb for Compare {
    const FAILURE: u8 = report::compare::TROUBLE;

    fn validate(&self) -> Result<(), String> {
        Self::validate(self)
    }

    fn files(&self) -> Vec<(&'static str, &Path)> {
        vec![("a", &self.a), ("b", &self.b)]
    }

    /// An error about B names it.
    fn path(&self, _: Side) -> &Path {
        &self.a
    }

    fn is_json(&self) -> bool {
        self.json.json
    }

    fn advice(&self, error: &Error) -> Option<&'static str> {
        report::compare::advice(error)
    }

    fn run(&self) -> mkqcow2::Result<ExitCode> {
        let bar = Bar::new(self.shown.bar());
        let comparison = Comparison::open(&self.a, &self.b, self.options())?;
        if self.all {
            return Ok(report::compare::all(self, &comparison, &bar));
        }
        let report = comparison.first(&bar);
        bar.end();
        Ok(report::compare::first(self, &report?))
    }
}
