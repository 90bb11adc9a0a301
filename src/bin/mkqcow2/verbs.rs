//! The commands: which there are, and what is the same for all of them.

mod check;
mod compare;
mod create;
mod info;
mod map;
mod merge;
mod mount;
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
use crate::args::merge::Merge;
use crate::args::mount::Mount;
use crate::args::restore::Restore;
use crate::args::verify::Verify;
use crate::console;
use crate::report;
use crate::status::USAGE;
use crate::verb::Verb;

/// The words that are commands if they come first, in the order of the help.
pub(crate) const ALL: [Word; 8] = [
    Word::of::<Restore>("restore"),
    Word::of::<Verify>("verify"),
    Word::of::<Check>("check"),
    Word::of::<Compare>("compare"),
    Word::of::<Info>("info"),
    Word::of::<Map>("map"),
    Word::of::<Merge>("merge"),
    Word::of::<Mount>("mount"),
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

    fn name(self) -> &'static str {
        self.name
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

/// The word that asks for the help.
const HELP: &str = "help";

/// Does what the words of the command line ask for; the first of them is the name of the program.
pub(crate) fn start(words: &[OsString]) -> ExitCode {
    match words {
        [] | [_] => no_word(),
        [program, word, rest @ ..] if word == HELP => help(program, rest),
        [_, word, ..] => match Word::find(word) {
            Some(word) => (word.start)(words.get(1..).unwrap_or_default()),
            None => match parse::<Create>(words) {
                Ok(create) => run(&create),
                Err(error) => misused(
                    words,
                    &meant(words).filter(|_| is_of_words(&error)).unwrap_or(error),
                ),
            },
        },
    }
}

fn start_verb<V: Verb>(words: &[OsString]) -> ExitCode {
    match parse::<V>(words) {
        Ok(verb) => run(&verb),
        Err(error) => misused(words, &error),
    }
}

fn run<V: Verb>(verb: &V) -> ExitCode {
    match verb.run() {
        Ok(status) => status,
        Err(error) => report::failure(verb, &error),
    }
}

/// The whole help, but as a complaint: a script whose variables are empty has not done what it should.
fn no_word() -> ExitCode {
    console::complain(&Create::line().max_term_width(100).render_help().to_string());
    ExitCode::from(USAGE)
}

/// `mkqcow2 help` and `mkqcow2 help COMMAND`.
fn help(program: &OsString, words: &[OsString]) -> ExitCode {
    let flag = OsString::from("--help");
    match words {
        [] => start_verb::<Create>(&[program.clone(), flag]),
        [word] if Word::find(word).is_some() => start(&[program.clone(), word.clone(), flag]),
        [word, ..] => {
            let shown = console::shown(word.as_ref());
            let names: Vec<_> = ALL.iter().map(|word| word.name).collect();
            let names = names.join(", ");
            let message =
                format!("'{shown}' is no command, expected one of {names}; write ./{HELP} for a file");
            misused(words, &refusal(Create::line(), &message))
        }
    }
}

/// Whether a command line was refused because its words are too many, too few or unknown.
fn is_of_words(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnknownArgument | ErrorKind::MissingRequiredArgument
    )
}

/// What the words of an image that cannot be made were probably to be: a command that comes too late, or is mistyped.
fn meant(words: &[OsString]) -> Option<clap::Error> {
    let late = words.iter().skip(2).find_map(|word| Word::find(word));
    let mistyped = words.get(1).and_then(|word| Some((word, nearest(word)?)));
    let message = match (late, mistyped) {
        (Some(late), _) => late.refusal(),
        (None, Some((word, nearest))) => {
            let (word, name) = (console::shown(word.as_ref()), nearest.name);
            format!("'{word}' is no command; did you mean '{name}'?")
        }
        (None, None) => return None,
    };
    Some(refusal(Create::line(), &message))
}

/// The command that a word may be a mistyped name of.
fn nearest(word: &OsStr) -> Option<Word> {
    let word = word.to_str()?;
    let distance = |known: &Word| strsim::damerau_levenshtein(word, known.name);
    let nearest = ALL.into_iter().min_by_key(distance)?;
    let distance = distance(&nearest);
    ((1..=2).contains(&distance) && 2 * distance < word.chars().count()).then_some(nearest)
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
fn misused(words: &[OsString], error: &clap::Error) -> ExitCode {
    let is_asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let mut options = words.iter().take_while(|word| *word != "--");
    if !is_asked_for && options.any(|word| word == "--json") && !words.iter().any(|word| word == "-") {
        report::misuse(&error.render().to_string());
    }
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
