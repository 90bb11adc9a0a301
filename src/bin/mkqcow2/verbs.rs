//! The commands: which there are, and what is the same for all of them.

mod check;
mod compare;
mod create;
mod info;
mod map;
mod restore;
mod verify;

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::args::check::Check;
use crate::args::compare::Compare;
use crate::args::create::Create;
use crate::args::info::Info;
use crate::args::map::Map;
use crate::args::restore::Restore;
use crate::args::verify::Verify;
use crate::console;
use crate::report;
use crate::status::USAGE;
use crate::verb::Verb;

/// The words that are commands if they come first, in the order of the help.
pub(crate) const ALL: [Word; 6] = [
    Word::of::<Restore>("restore"),
    Word::of::<Verify>("verify"),
    Word::of::<Check>("check"),
    Word::of::<Compare>("compare"),
    Word::of::<Info>("info"),
    Word::of::<Map>("map"),
];

/// A word that is a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word {
    name: &'static str,
    line: fn() -> clap::Command,
    start: fn(&[OsString]) -> ExitCode,
}

impl Word {
    const fn of<V: Verb>(name: &'static str) -> Self {
        Self {
            name,
            line: V::line,
            start: start_verb::<V>,
        }
    }

    fn find(word: &OsStr) -> Option<Self> {
        ALL.into_iter().find(|known| word == known.name)
    }

    /// Why it is not the name of a source.
    fn refusal(self) -> String {
        let name = self.name;
        format!("'{name}' is a command, which comes before all options; write ./{name} for the file")
    }
}

/// Does what the words of the command line ask for; the first of them is the name of the program.
pub(crate) fn start(words: &[OsString]) -> ExitCode {
    match words.get(1).and_then(|word| Word::find(word)) {
        None => start_verb::<Create>(words),
        Some(word) => (word.start)(words.get(1..).unwrap_or_default()),
    }
}

fn start_verb<V: Verb>(words: &[OsString]) -> ExitCode {
    let verb = match parse::<V>(words) {
        Ok(verb) => verb,
        Err(error) => return misused(&error),
    };
    match verb.run() {
        Ok(status) => status,
        Err(error) => report::failure(&verb, &error),
    }
}

fn parse<V: Verb>(words: &[OsString]) -> Result<V, clap::Error> {
    let mut line = V::line().max_term_width(100);
    let matches = line.try_get_matches_from_mut(words)?;
    let verb = V::from_arg_matches(&matches).map_err(|error| error.format(&mut line))?;
    match verb.validate() {
        Ok(()) => Ok(verb),
        Err(message) => Err(refusal(line, &message)),
    }
}

fn refusal(mut line: clap::Command, message: &str) -> clap::Error {
    line.error(ErrorKind::ValueValidation, message)
}

/// Tells how it is used, because that was asked for or because it was misused.
fn misused(error: &clap::Error) -> ExitCode {
    let is_asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    // Nobody is left to tell if even a complaint cannot be written.
    match error.print() {
        _ if !is_asked_for => ExitCode::from(USAGE),
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            console::say(&format!("cannot write to standard output: {error}"));
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

/// The list of commands in the help.
fn list() -> String {
    let mut list = "Commands, each with a --help and a manual page, mkqcow2-COMMAND:\n".to_owned();
    for Word { name, line, .. } in ALL {
        let about = line().get_about().map(ToString::to_string);
        // Never fails: it is a string.
        let _ = writeln!(list, "  {name:<9}{}", about.unwrap_or_default());
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_lines_are_consistent() {
        Create::line().debug_assert();
        for Word { name, line, .. } in ALL {
            let mut line = line();
            let usage = line.render_usage().to_string();
            assert!(
                usage.starts_with(&format!("Usage: mkqcow2 {name} [OPTIONS] ")),
                "{usage}"
            );
            assert!(line.get_about().is_some(), "{name}");
            line.debug_assert();
        }
    }
}
