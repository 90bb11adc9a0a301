//! Words on standard output and standard error.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::BinaryBytes;
use serde_json::Value;

/// A path as a terminal can bear it.
pub(crate) fn shown(path: &Path) -> String {
    escaped(&path.to_string_lossy())
}

/// Text from outside as a terminal can bear it: control characters are escaped.
pub(crate) fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// JSON on a line.
pub(crate) fn json(value: &Value) -> String {
    value.to_string()
}

/// A line on standard error about a file.
pub(crate) fn say_of(path: &Path, message: &str) {
    say(&format!("{}: {}", shown(path), escaped(message)));
}

/// A line on standard error.
pub(crate) fn say(message: &str) {
    // There is nowhere else to complain.
    let _ = writeln!(io::stderr().lock(), "mkqcow2: {message}");
}

/// To standard output. Whether that worked; a reader that has had enough is no failure.
pub(crate) fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> bool {
    let mut out = BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => true,
        Err(error) => {
            say(&format!("cannot write to standard output: {error}"));
            false
        }
    }
}

/// A rate.
pub(crate) fn per_second(bytes: u64, duration: Duration) -> BinaryBytes {
    let rate = u128::from(bytes).saturating_mul(1_000_000_000) / duration.as_nanos().max(1);
    BinaryBytes(u64::try_from(rate).unwrap_or(u64::MAX))
}
