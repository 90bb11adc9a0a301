//! What the user is told: one module a command, and what is told of all of them.

mod bases;
pub(crate) mod check;
pub(crate) mod compare;
pub(crate) mod create;
pub(crate) mod info;
pub(crate) mod map;
pub(crate) mod merge;
pub(crate) mod mount;
pub(crate) mod places;
mod regions;
pub(crate) mod restore;
pub(crate) mod verify;

use std::error::Error as _;
use std::io::{self, Write};
use std::ops::Range;
use std::process::ExitCode;

use serde_json::{Map, Value};

use crate::advice;
use crate::console::{json, print, say, say_of, tell};
use crate::status::USAGE;
use crate::verb::Verb;
use mkqcow2::Error;
use mkqcow2::error::Invalid;
use mkqcow2::output::{Cleanup, Left};
use mkqcow2::units::length;

/// Of a run that failed.
pub(crate) fn failure<V: Verb>(verb: &V, error: &Error) -> ExitCode {
    let (status, fields) = told(verb, error);
    if verb.is_json() {
        print(|out| writeln!(out, "{}", json(&fields.into())));
    }
    ExitCode::from(status)
}

/// Tells of a failure on standard error. Returns the status, and what a JSON object says of it.
pub(crate) fn told<V: Verb>(verb: &V, error: &Error) -> (u8, Map<String, Value>) {
    let (error, elsewhere) = error.innermost();
    let place = verb
        .place(error)
        .map_or_else(String::new, |place| format!("{place}: "));
    let message = format!("{place}{}", with_causes(error));
    let outcome = verb
        .outcome()
        .filter(|_| elsewhere.is_none() && advice::is_halfway(error));
    let advice = verb.advice(error);
    let remarks: Vec<_> = outcome.into_iter().chain(advice).collect();
    let line = match *remarks {
        [] => message.clone(),
        [..] => format!("{message} ({})", remarks.join("; ")),
    };
    // Found out only here, but wrong on any source.
    let is_usage = matches!(
        error,
        Error::Invalid(Invalid::Unaligned { .. } | Invalid::LengthZero)
    );
    let status = if is_usage { USAGE } else { V::failure(error) };
    let path = elsewhere.unwrap_or(verb.path(error.side()));
    say_of(path, &line);
    let suggestion = verb.suggestion(error);
    if let Some(suggestion) = &suggestion {
        say(suggestion);
    }
    let aftermath = verb.aftermath();
    if let Some((path, message)) = &aftermath {
        say_of(path, message);
    }
    let remains = verb.cleanup().and_then(Cleanup::remains);
    if let Some(remains) = &remains {
        say_of(remains.path(), &remains.to_string());
    }
    let named = verb.files().into_iter().chain([("path", path)]);
    let mut fields: Map<_, _> = named
        .map(|(field, path)| (field.to_owned(), path.to_string_lossy().into()))
        .collect();
    fields.insert("status".to_owned(), status.into());
    fields.insert("error".to_owned(), message.into());
    fields.insert(
        "code".to_owned(),
        if is_usage { MISUSED } else { code(error) }.into(),
    );
    fields.insert(
        "advice".to_owned(),
        suggestion.or(advice.map(str::to_owned)).into(),
    );
    if let Error::Io { source, .. } = error
        && let Some(number) = source.raw_os_error()
    {
        fields.insert("errno".to_owned(), number.into());
    }
    if let Some((_, message)) = aftermath {
        fields.insert("target-state".to_owned(), message.into());
    }
    if let Some(remains) = remains {
        fields.insert("remains".to_owned(), remains.path().to_string_lossy().into());
    }
    (status, fields)
}

/// What scripts are told of a command line that means nothing.
const MISUSED: &str = "usage";

/// Of what kind an error is, for scripts.
fn code(error: &Error) -> &'static str {
    match error {
        Error::Io { .. } => "system",
        Error::Corrupt(_) => "damaged",
        Error::Unsupported(_) => "unsupported",
        Error::Invalid(_) => "refused",
        Error::ReadBack(_) => "read-back",
        Error::Elsewhere { error, .. } => code(error),
        _ => "other",
    }
}

/// Of a command line that means nothing, for scripts: what is wrong with it, without how it is used.
pub(crate) fn misuse(error: &str) {
    let first = error.split("\n\n").next().unwrap_or(error);
    let words: Vec<_> = first.trim_start_matches("error: ").split_whitespace().collect();
    let object = serde_json::json!({
        "status": USAGE, "error": words.join(" "), "code": MISUSED, "advice": null,
    });
    print(|out| writeln!(out, "{}", json(&object)));
}

/// What a failure has left of a target, if all is as it was.
pub(crate) fn unchanged(cleanup: &Cleanup, is_stream: bool) -> Option<&'static str> {
    let is_unchanged = cleanup.left() == Left::Old && cleanup.remains().is_none();
    is_unchanged.then_some(if is_stream {
        "nothing was written"
    } else {
        "nothing was changed"
    })
}

/// The same as [`with_causes`], behind the path of the file that it is about.
fn with_path(error: &Error) -> String {
    let (inner, path) = error.innermost();
    let path = path.map(|path| format!("{}: ", path.display()));
    format!("{}{}", path.unwrap_or_default(), with_causes(inner))
}

/// The message of an error, with those of its causes behind it.
fn with_causes(error: &Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let number = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error);
        let text = error.to_string();
        let number = number.map(|number| format!(" (os error {number})"));
        let text = number
            .and_then(|number| text.strip_suffix(&number))
            .unwrap_or(&text);
        message = format!("{message}: {text}");
        cause = error.source();
    }
    message
}

/// Ranges of a disk, for scripts.
fn ranges(ranges: &[Range<u64>]) -> Vec<Value> {
    let object = |range: &Range<u64>| serde_json::json!({"start": range.start, "length": length(range)});
    ranges.iter().map(object).collect()
}

/// Of a run whose report is all that was asked for: with this status, unless it cannot be told.
pub(crate) fn answer<V: Verb>(status: u8, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> ExitCode {
    ExitCode::from(if print(write) { status } else { V::FAILURE })
}

/// Of a run whose status is an answer by itself. Many programs give a child whose words they do not want the null device
/// for reading and writing, which looks like a standard output that is closed: then only JSON is missed.
pub(crate) fn verdict<V: Verb>(
    verb: &V,
    status: u8,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> ExitCode {
    let is_told = if verb.is_json() { print(write) } else { tell(write) };
    ExitCode::from(if is_told { status } else { V::FAILURE })
}
