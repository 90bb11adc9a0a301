//! `mkqcow2 SOURCE IMAGE`.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;

use super::{Word, list, nearest};
use crate::args::create::{AFTER_HELP, Create};
use crate::args::shared::{place, shown_place};
use crate::bar::{self, Bar};
use crate::console::quoted;
use crate::verb::Verb;
use crate::{report, signals};
use mkqcow2::error::Side;
use mkqcow2::output::{Cleanup, Left};
use mkqcow2::{Error, Imaging};

impl Verb for Create {
    fn line() -> clap::Command {
        let line = Self::command().after_help(format!("{}\n{AFTER_HELP}", list()));
        // Where two images are at work, "the image" is the other one.
        [
            (
                "part",
                "Image only this volume: the number of a partition, GROUP/VOLUME of LVM, or a label that no other volume has",
            ),
            ("offset", "Begin at this byte of SOURCE, a multiple of 512"),
            (
                "length",
                "Image only this many bytes, a multiple of 512 [default: up to the end]",
            ),
            ("backing", "Read the backing file of SOURCE from PATH"),
            (
                "backing_format",
                "Formats of the backing files of SOURCE, from the first on, separated by commas",
            ),
            ("data_file", "Read the external data file of SOURCE from PATH"),
            ("follow", "Open the backing and data files that SOURCE names"),
            (
                "snapshot",
                "Read the disk as it was in an internal snapshot of SOURCE",
            ),
            (
                "password_file",
                "Decrypt an AES-encrypted SOURCE with the password in FILE",
            ),
        ]
        .into_iter()
        .fold(line, |line, (option, help)| {
            line.mut_arg(option, |option| option.help(help))
        })
    }

    fn validate(&self) -> Result<(), String> {
        match Word::find(self.source.as_os_str()) {
            Some(word) => Err(word.refusal()),
            None => Self::validate(self),
        }
    }

    fn files(&self) -> Vec<(&'static str, &Path)> {
        vec![("source", &self.source), ("image", &self.image)]
    }

    fn path(&self, side: Side) -> &Path {
        match side {
            Side::Source => &self.source,
            Side::Target => self.shown_image(),
        }
    }

    fn is_json(&self) -> bool {
        self.json.json
    }

    fn advice(&self, error: &Error) -> Option<&'static str> {
        report::create::advice(self, error)
    }

    fn place(&self, error: &Error) -> Option<String> {
        report::create::place(self, error)
    }

    fn suggestion(&self, error: &Error) -> Option<String> {
        match nearest(self.source.as_os_str()) {
            Some(word) if report::create::is_missing(error) => {
                let (name, image) = (word.name(), quoted(&self.image));
                Some(format!("If a command was meant: mkqcow2 {name} {image}"))
            }
            Some(_) | None => report::create::suggestion(self, error),
        }
    }

    fn cleanup(&self) -> Option<&Cleanup> {
        Some(&self.cleanup)
    }

    fn outcome(&self) -> Option<&'static str> {
        report::unchanged(&self.cleanup, self.is_stream())
    }

    fn aftermath(&self) -> Option<(&Path, String)> {
        match self.cleanup.left() {
            Left::Part => Some((self.shown_image(), report::create::INCOMPLETE.to_owned())),
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
        signals::watch(self.cleanup.clone(), bar.eraser(), self.shown_image().to_owned());
        let imaging = Imaging::prepare(&self.source, place(&self.image), self.options())?;
        if self.dry_run {
            return Ok(report::create::plan(self, &imaging.plan()));
        }
        bar.aside(|| report::create::before(self, &imaging.plan()));
        let report = imaging.run(&report::create::Meanwhile::of(self, &bar));
        bar.end();
        Ok(report::create::done(self, &report?))
    }
}

impl Create {
    /// What the image is called in messages.
    pub(crate) fn shown_image(&self) -> &Path {
        shown_place(&self.image)
    }
}
