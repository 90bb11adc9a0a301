//! Words on standard output and standard error.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use indicatif::BinaryBytes;
use serde_json::Value;

use mkqcow2::error::Invalid;
use mkqcow2::output::close_once;
use mkqcow2::units::Exact;

/// A path as a terminal can bear it.
pub(crate) fn shown(path: &Path) -> String {
    escaped(&path.to_string_lossy())
}

/// A path as a shell takes it.
pub(crate) fn quoted(path: &Path) -> String {
    let shown = shown(path);
    let is_plain = |character: char| character.is_alphanumeric() || "/._-+:,@%=".contains(character);
    if !shown.is_empty() && shown.chars().all(is_plain) {
        return shown;
    }
    format!("'{}'", shown.replace('\'', "'\\''"))
}

/// Text from outside as a terminal can bear it: what it would obey, not show, is escaped.
pub(crate) fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_obeyed(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// JSON as a terminal can bear it, which means the same. Only in its strings is there anything to escape.
pub(crate) fn json(value: &Value) -> String {
    let text = value.to_string();
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_obeyed(character) {
            // All of them have four digits at most.
            let _ = write!(shown, "\\u{:04x}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Whether it moves the cursor or colours what follows, or turns around the order in which text is shown.
fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
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

/// Lines on standard error, as they are.
pub(crate) fn complain(lines: &str) {
    // There is nowhere else to complain.
    let _ = write!(io::stderr().lock(), "{lines}");
}

/// To standard output. Whether that worked; a reader that has had enough is no failure.
pub(crate) fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> bool {
    let mut out = BufWriter::new(Out::default());
    match write(&mut out)
        .and_then(|()| out.flush())
        .and_then(|()| out.get_ref().close())
    {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => true,
        Err(error) => {
            say(&format!("cannot write to standard output: {error}"));
            false
        }
    }
}

/// The same of words that are no more than a courtesy: where standard output is closed, nobody wants them.
pub(crate) fn tell(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> bool {
    is_closed(&io::stdout()) || print(write)
}

/// Whether standard output, or error, is closed.
pub(crate) fn is_closed(output: &impl AsFd) -> bool {
    mkqcow2::output::was_closed(output).unwrap_or(false)
}

/// Standard output from the first byte on. That of std takes words for written that it could not write.
#[derive(Debug, Default)]
struct Out {
    file: Option<File>,
}

impl Out {
    /// Some filesystems tell only then what they could not write.
    fn close(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), close_once)
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(file) = &mut self.file {
            return file.write(bytes);
        }
        let stdout = io::stdout();
        if mkqcow2::output::was_closed(&stdout)? {
            return Err(io::Error::other(Invalid::StdoutClosed.to_string()));
        }
        let file = File::from(stdout.as_fd().try_clone_to_owned()?);
        self.file.insert(file).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A rate.
pub(crate) fn per_second(bytes: u64, duration: Duration) -> BinaryBytes {
    let rate = u128::from(bytes).times(1_000_000_000) / duration.as_nanos().max(1);
    BinaryBytes(u64::try_from(rate).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(
            escaped("a\n\u{1b}[2J\u{9b}\u{7f}"),
            "a\\n\\u{1b}[2J\\u{9b}\\u{7f}"
        );
        assert_eq!(escaped("gpj.\u{202e}exe"), "gpj.\\u{202e}exe");
        assert_eq!(escaped("größe 磁盘"), "größe 磁盘");
    }

    #[test]
    fn a_shell_takes_a_quoted_path_for_one_word() {
        for (path, expected) in [
            ("/dev/sdb1", "/dev/sdb1"),
            ("my disk.raw", "'my disk.raw'"),
            ("it's", "'it'\\''s'"),
            ("$HOME", "'$HOME'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(Path::new(path)), expected);
        }
    }

    #[test]
    fn escaped_json_means_the_same() {
        let value = Value::from("a\n\u{1b}[2J\u{9b}\u{7f}\u{202e}\u{61c}ö");
        let text = json(&value);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        assert!(!text.chars().any(is_obeyed), "{text:?}");
    }
}
