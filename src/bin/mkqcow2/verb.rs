//! What a command is.

use std::path::Path;
use std::process::ExitCode;

use crate::{advice, status};
use mkqcow2::Error;
use mkqcow2::error::Side;
use mkqcow2::output::Cleanup;

/// A command: its command line is what clap makes of it.
pub(crate) trait Verb: clap::Parser {
    /// The exit status of a run that failed.
    const FAILURE: u8 = status::FAILURE;

    /// That of a run that failed because of this error.
    fn failure(_: &Error) -> u8 {
        Self::FAILURE
    }

    /// The command line, with all that only the program as a whole can tell.
    fn line() -> clap::Command {
        Self::command()
    }

    /// Refuses what is well-formed but cannot be meant.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }

    /// The files that were named, as the fields of a JSON object.
    fn files(&self) -> Vec<(&'static str, &Path)>;

    /// Which of them an error is about; one that is about [another](Error::Elsewhere) tells so itself.
    fn path(&self, side: Side) -> &Path;

    /// Whether the report is JSON.
    fn is_json(&self) -> bool;

    /// What the user can do about an error.
    fn advice(&self, error: &Error) -> Option<&'static str> {
        advice::general(error)
    }

    /// What was probably meant, as a whole line of its own.
    fn suggestion(&self, _: &Error) -> Option<String> {
        None
    }

    /// Where on the disk it is what an error is about, if that helps.
    fn place(&self, _: &Error) -> Option<String> {
        None
    }

    /// What knows of the file that it writes, if it writes one.
    fn cleanup(&self) -> Option<&Cleanup> {
        None
    }

    /// What a failure has left of it, if all is as it was.
    fn outcome(&self) -> Option<&'static str> {
        None
    }

    /// What a failure has left of a file, if that must be known.
    fn aftermath(&self) -> Option<(&Path, String)> {
        None
    }

    /// Does it, and tells what came of it.
    fn run(&self) -> mkqcow2::Result<ExitCode>;
}
