//! `mkqcow2 merge IMAGE`.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::merge::{AFTER_HELP, Merge};
use crate::bar::{self, Bar};
use crate::verb::Verb;
use crate::{report, signals};
use mkqcow2::error::Side;
use mkqcow2::output::Cleanup;
use mkqcow2::{Error, Merging};

impl Verb for Merge {
    fn line() -> clap::Command {
        Self::command().after_help(AFTER_HELP)
    }

    fn validate(&self) -> Result<(), String> {
        Self::validate(self)
    }

    fn files(&self) -> Vec<(&'static str, &Path)> {
        vec![("image", &self.image)]
    }

    fn path(&self, _: Side) -> &Path {
        &self.image
    }

    fn is_json(&self) -> bool {
        self.json.json
    }

    fn advice(&self, error: &Error) -> Option<&'static str> {
        report::merge::advice(error)
    }

    fn cleanup(&self) -> Option<&Cleanup> {
        Some(&self.cleanup)
    }

    fn outcome(&self) -> Option<&'static str> {
        report::unchanged(&self.cleanup, false)
    }

    fn run(&self) -> mkqcow2::Result<ExitCode> {
        let style = if self.dry_run {
            bar::Style::Hidden
        } else {
            self.shown.bar()
        };
        let bar = Bar::new(style);
        signals::watch(self.cleanup.clone(), bar.eraser(), self.image.clone());
        let merging = Merging::prepare(&self.image, self.options())?;
        if self.dry_run {
            return Ok(report::merge::plan(self, &merging.plan()));
        }
        let report = merging.run(&bar);
        bar.end();
        Ok(report::merge::done(self, &report?))
    }
}
