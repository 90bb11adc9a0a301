//! `mkqcow2 restore IMAGE TARGET`.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::restore::{AFTER_HELP, Restore};
use crate::args::shared::{place, shown_place};
use crate::bar::{self, Bar};
use crate::verb::Verb;
use crate::{report, signals};
use mkqcow2::error::Side;
use mkqcow2::output::{Cleanup, Left};
use mkqcow2::{Error, Restoring};

impl Verb for Restore {
    fn line() -> clap::Command {
        Self::command().after_help(AFTER_HELP)
    }

    fn validate(&self) -> Result<(), String> {
        Self::validate(self)
    }

    fn files(&self) -> Vec<(&'static str, &Path)> {
        vec![("image", &self.image), ("target", &self.target)]
    }

    fn path(&self, side: Side) -> &Path {
        match side {
            Side::Source => self.shown_image(),
            Side::Target => self.shown_target(),
        }
    }

    fn is_json(&self) -> bool {
        self.json.json
    }

    fn advice(&self, error: &Error) -> Option<&'static str> {
        report::restore::advice(self, error)
    }

    fn place(&self, error: &Error) -> Option<String> {
        report::restore::place(self, error)
    }

    fn suggestion(&self, error: &Error) -> Option<String> {
        report::restore::suggestion(self, error)
    }

    fn cleanup(&self) -> Option<&Cleanup> {
        Some(&self.cleanup)
    }

    fn outcome(&self) -> Option<&'static str> {
        report::unchanged(&self.cleanup, self.is_stream())
    }

    fn aftermath(&self) -> Option<(&Path, String)> {
        match self.cleanup.left() {
            Left::Part => Some((self.shown_target(), report::restore::incomplete(self))),
            Left::Old | Left::New => None,
        }
    }

    fn run(&self) -> mkqcow2::Result<ExitCode> {
        let style = if self.dry_run {
            bar::Style::Hidden
        } else {
            self.shown.bar()
        };
        let bar = Bar::new(style);
        signals::watch(self.cleanup.clone(), bar.eraser(), self.shown_target().to_owned());
        let restoring = Restoring::prepare(self.image_at(), place(&self.target), self.options())?;
        if self.dry_run {
            return Ok(report::restore::plan(self, &restoring.plan()?));
        }
        report::restore::before(self, restoring.existing());
        let report = restoring.run(&bar);
        bar.end();
        Ok(report::restore::done(self, &report?))
    }
}

impl Restore {
    /// What the image is called in messages.
    pub(crate) fn shown_image(&self) -> &Path {
        if self.is_piped() {
            Path::new("standard input")
        } else {
            &self.image
        }
    }

    /// What the target is called in messages.
    pub(crate) fn shown_target(&self) -> &Path {
        shown_place(&self.target)
    }
}
