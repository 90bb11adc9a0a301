//! The text that LVM keeps its metadata in: sections of names with values. Source: LVM2, `libdm/libdm-config.c` and
//! lvm.conf(5).
//!
//! Only what LVM writes is read, and all of that: comments, sections, strings, whole numbers, lists of both. Anything
//! else is a fault.

use std::collections::BTreeMap;

/// How many sections may lie in each other: LVM writes four.
const MAX_DEPTH: usize = 8;

/// How many names and values there may be: each takes some bytes of a text that is limited itself.
const MAX_VALUES: usize = 1 << 18;

/// What stands behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Number(i64),
    Text(String),
    List(Vec<Value>),
    Section(Section),
}

/// Names with values, each name once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Section(BTreeMap<String, Value>);

/// What is wrong with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The line, from 1 on.
    pub(super) line: u64,
    /// What is wrong there.
    pub(super) what: &'static str,
}

impl Section {
    /// Reads a text, which ends with its first zero byte if it has one.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Fault> {
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let mut reader = Reader {
            rest: text,
            line: 1,
            values: 0,
        };
        let section = reader.section(0)?;
        match reader.peek() {
            None => Ok(section),
            Some(_) => Err(reader.fault("a bracket closes nothing")),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(super) fn section(&self, name: &str) -> Option<&Self> {
        match self.get(name)? {
            Value::Section(section) => Some(section),
            Value::Number(_) | Value::Text(_) | Value::List(_) => None,
        }
    }

    /// A number that is not negative.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Value::Number(number) => u64::try_from(*number).ok(),
            Value::Section(_) | Value::Text(_) | Value::List(_) => None,
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            Value::Section(_) | Value::Number(_) | Value::List(_) => None,
        }
    }

    pub(super) fn list(&self, name: &str) -> Option<&[Value]> {
        match self.get(name)? {
            Value::List(list) => Some(list),
            Value::Section(_) | Value::Number(_) | Value::Text(_) => None,
        }
    }

    /// Whether a list of words, where there is one, has none but these.
    pub(super) fn has_only(&self, list: &str, words: &[&str]) -> bool {
        let is_one = |word: &Value| matches!(word, Value::Text(word) if words.contains(&&**word));
        match self.get(list) {
            None => true,
            Some(Value::List(found)) => found.iter().all(is_one),
            Some(word) => is_one(word),
        }
    }

    /// All names with their values.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// The sections in it with their names.
    pub(super) fn sections(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.entries().filter_map(|(name, value)| match value {
            Value::Section(section) => Some((name, section)),
            Value::Number(_) | Value::Text(_) | Value::List(_) => None,
        })
    }
}

impl Value {
    /// All text in it, that of sections too.
    pub(super) fn words(&self) -> Vec<&str> {
        let (mut words, mut left) = (Vec::new(), vec![self]);
        while let Some(value) = left.pop() {
            match value {
                Self::Number(_) => {}
                Self::Text(text) => words.push(&**text),
                Self::List(list) => left.extend(list),
                Self::Section(section) => left.extend(section.0.values()),
            }
        }
        words
    }
}

/// A text that is read from its beginning on.
#[derive(Debug)]
struct Reader<'a> {
    rest: &'a [u8],
    line: u64,
    values: usize,
}

impl<'a> Reader<'a> {
    fn fault(&self, what: &'static str) -> Fault {
        let line = self.line;
        Fault { line, what }
    }

    /// The next byte that is neither space nor comment.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.rest.first()? {
                b'#' => {
                    while self.rest.first().is_some_and(|byte| *byte != b'\n') {
                        self.take();
                    }
                }
                b' ' | b'\t' | b'\r' | b'\n' => {
                    self.take();
                }
                byte => return Some(byte),
            }
        }
    }

    fn take(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        if *byte == b'\n' {
            // No more of them than bytes.
            self.line = self.line.saturating_add(1);
        }
        Some(*byte)
    }

    /// Takes a byte that must be next.
    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Fault> {
        if self.peek() != Some(byte) {
            return Err(self.fault(what));
        }
        self.take();
        Ok(())
    }

    /// Takes as many bytes as there are of a kind.
    fn while_is(&mut self, is_so: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| !is_so(*byte));
        let (taken, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// Counts a value.
    fn value_more(&mut self) -> Result<(), Fault> {
        // One of at most MAX_VALUES.
        self.values = self.values.saturating_add(1);
        if self.values > MAX_VALUES {
            return Err(self.fault("it has too many values"));
        }
        Ok(())
    }

    /// Names with values up to the bracket that closes them, or the end.
    fn section(&mut self, depth: usize) -> Result<Section, Fault> {
        let mut section = Section::default();
        while self.peek().is_some_and(|byte| byte != b'}') {
            self.value_more()?;
            let name = self.name()?;
            let value = match self.peek() {
                Some(b'=') => {
                    self.take();
                    self.value()?
                }
                Some(b'{') if depth < MAX_DEPTH => {
                    self.take();
                    let inner = self.section(depth.saturating_add(1))?;
                    self.expect(b'}', "a section is not closed")?;
                    Value::Section(inner)
                }
                Some(b'{') => return Err(self.fault("too many sections lie in each other")),
                _ => return Err(self.fault("a name has no value")),
            };
            if section.0.insert(name, value).is_some() {
                return Err(self.fault("a name has two values"));
            }
        }
        Ok(section)
    }

    fn name(&mut self) -> Result<String, Fault> {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.+".contains(&byte);
        let name = self.while_is(is_part);
        if name.is_empty() {
            return Err(self.fault("a name is expected"));
        }
        Ok(String::from_utf8_lossy(name).into_owned())
    }

    fn value(&mut self) -> Result<Value, Fault> {
        if self.peek() != Some(b'[') {
            return self.scalar();
        }
        self.take();
        let mut list = Vec::new();
        while self.peek() != Some(b']') {
            list.push(self.scalar()?);
            match self.peek() {
                Some(b',') => {
                    self.take();
                }
                Some(b']') => {}
                _ => return Err(self.fault("a list is not closed")),
            }
        }
        self.take();
        Ok(Value::List(list))
    }

    fn scalar(&mut self) -> Result<Value, Fault> {
        self.value_more()?;
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'0'..=b'9' | b'-' | b'+') => self.number(),
            _ => Err(self.fault("a value is expected")),
        }
    }

    fn number(&mut self) -> Result<Value, Fault> {
        let digits = self.while_is(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte));
        let number = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| digits.parse().ok());
        number
            .map(Value::Number)
            .ok_or_else(|| self.fault("a number is expected"))
    }

    /// Text between quotes, in which a backslash stands before quotes and backslashes.
    fn string(&mut self) -> Result<Value, Fault> {
        self.take();
        let mut text = Vec::new();
        loop {
            match self.take() {
                Some(b'"') => break,
                Some(b'\\') => match self.take() {
                    Some(byte @ (b'"' | b'\\')) => text.push(byte),
                    _ => return Err(self.fault("a backslash escapes neither a quote nor a backslash")),
                },
                Some(byte) => text.push(byte),
                None => return Err(self.fault("a string is not closed")),
            }
        }
        let text = String::from_utf8(text).map_err(|_| self.fault("a string is no UTF-8"))?;
        Ok(Value::Text(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Option<(u64, &'static str)> {
        let fault = Section::parse(text.as_bytes()).err()?;
        Some((fault.line, fault.what))
    }

    #[test]
    fn what_lvm_writes_is_read() {
        let text = concat!(
            "vg {\n\tid = \"a-b\" # words\n\tseqno = 3\n\tstatus = [\"READ\", \"WRITE\"]\n\tflags = []\n",
            "\tpv0 {\n\t\tstripes = [\n\t\t\t\"pv0\", 17\n\t\t]\n\t}\n}\n# Generated \"{\nversion = 1\n",
            "description = \"a \\\"word\\\" and \\\\\"\n\0garbage {"
        );
        let section = Section::parse(text.as_bytes()).unwrap();
        assert_eq!(section.number("version"), Some(1));
        assert_eq!(section.text("description"), Some("a \"word\" and \\"));
        let group = section.section("vg").unwrap();
        assert_eq!((group.text("id"), group.number("seqno")), (Some("a-b"), Some(3)));
        assert_eq!(group.list("flags"), Some(&[][..]));
        let stripes = group.section("pv0").unwrap().list("stripes").unwrap();
        assert_eq!(stripes, [Value::Text("pv0".to_owned()), Value::Number(17)]);
        let group = Value::Section(group.clone());
        let mut words = group.words();
        words.sort_unstable();
        assert_eq!(words, ["READ", "WRITE", "a-b", "pv0"]);
    }

    #[test]
    fn anything_else_is_a_fault_with_its_line() {
        for (text, line, what) in [
            ("a = 1\na = 2", 2, "a name has two values"),
            ("a {\nb = 1", 2, "a section is not closed"),
            ("a = 1 }", 1, "a bracket closes nothing"),
            ("a\nb = 1", 2, "a name has no value"),
            ("a = \"b", 1, "a string is not closed"),
            (
                "a = \"\\n\"",
                1,
                "a backslash escapes neither a quote nor a backslash",
            ),
            ("a = [1, 2", 1, "a list is not closed"),
            ("a = [1 2]", 1, "a list is not closed"),
            ("a = [[1]]", 1, "a value is expected"),
            ("a = 1.5", 1, "a number is expected"),
            ("a = 99999999999999999999", 1, "a number is expected"),
            ("= 1", 1, "a name is expected"),
            ("\n\na = ", 3, "a value is expected"),
        ] {
            assert_eq!(faults(text), Some((line, what)), "{text:?}");
        }
        let deep = format!("{}{}", "a {".repeat(20), "}".repeat(20));
        assert_eq!(faults(&deep), Some((1, "too many sections lie in each other")));
        let many = format!("a = [{}]", "1,".repeat(MAX_VALUES + 1));
        assert_eq!(faults(&many), Some((1, "it has too many values")));
        let not_text = Section::parse(b"a = \"\xff\"").unwrap_err();
        assert_eq!(not_text.what, "a string is no UTF-8");
    }
}
