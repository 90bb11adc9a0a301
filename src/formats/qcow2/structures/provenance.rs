//! Where an image comes from: a section of the [record](super::record).
//!
//! Its data is one JSON object in UTF-8, of 4096 bytes at most. Every key may be missing, and other keys are passed
//! over:
//!
//! ```text
//! made      when the image was made, in seconds since 1970: a number
//! host      the name of the host that made it
//! source    the path of the source
//! model     of the disk that the source was, or was a part of
//! serial    its serial number
//! version   of mkqcow2
//! ```

use serde_json::{Map, Value};

use crate::units::Exact;

/// How long the data of the section is at most, in bytes.
pub const MAX_PROVENANCE: u64 = 4096;

/// How long a path is at most, in bytes of JSON: the beginning of a longer one is cut off.
const MAX_SOURCE: usize = 2048;

/// How long every other text is at most, in bytes of JSON.
const MAX_TEXT: usize = 256;

/// What stands for the part of a text that was cut off.
const CUT: char = '\u{2026}';

/// When, where, from what and by which version an image was made, as far as that is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// When the image was made, in seconds since 1970.
    pub made: Option<u64>,
    /// The name of the host.
    pub host: Option<String>,
    /// The path of the source.
    pub source: Option<String>,
    /// The model of the disk that the source was, or was a part of.
    pub model: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// The version of mkqcow2.
    pub version: Option<String>,
}

impl Provenance {
    /// The data of the section, at most [`MAX_PROVENANCE`] bytes. Of a text that is too long the end is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        let texts = [
            ("host", &self.host, MAX_TEXT),
            ("source", &self.source, MAX_SOURCE),
            ("model", &self.model, MAX_TEXT),
            ("serial", &self.serial, MAX_TEXT),
            ("version", &self.version, MAX_TEXT),
        ];
        let texts = texts.into_iter().filter_map(|(key, text, most)| {
            let text = end_of(text.as_deref()?, most);
            Some((key.to_owned(), Value::from(text)))
        });
        let made = self.made.map(|made| ("made".to_owned(), Value::from(made)));
        let object: Map<_, _> = made.into_iter().chain(texts).collect();
        Value::from(object).to_string().into_bytes()
    }

    /// What the data of a section says; none if it is not an object as described here.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut object: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
        let made = match object.remove("made") {
            None => None,
            Some(made) => Some(made.as_u64()?),
        };
        let mut text = |key| match object.remove(key) {
            None => Some(None),
            Some(Value::String(text)) => Some(Some(text)),
            Some(_) => None,
        };
        Some(Self {
            made,
            host: text("host")?,
            source: text("source")?,
            model: text("model")?,
            serial: text("serial")?,
            version: text("version")?,
        })
    }
}

/// The end of a text, as much as takes `most` bytes in JSON.
fn end_of(text: &str, most: usize) -> String {
    if json_length(text) <= most {
        return text.to_owned();
    }
    let mut left = most.minus(CUT.len_utf8());
    let fits = |character: &char| {
        let length = json_length(character.encode_utf8(&mut [0; 4]));
        let rest = left.checked_sub(length);
        left = rest.unwrap_or(0);
        rest.is_some()
    };
    let mut end: Vec<_> = text.chars().rev().take_while(fits).collect();
    end.push(CUT);
    end.into_iter().rev().collect()
}

/// How many bytes a text takes in JSON, without its quotes.
fn json_length(text: &str) -> usize {
    Value::from(text).to_string().len().minus(2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::units::to_u64;

    fn full() -> Provenance {
        Provenance {
            made: Some(1_795_248_000),
            host: Some("alpha".to_owned()),
            source: Some("/dev/sdb1".to_owned()),
            model: Some("Foo \"2000\"".to_owned()),
            serial: Some("S1\n".to_owned()),
            version: Some("0.1.0".to_owned()),
        }
    }

    #[test]
    fn it_is_one_object_of_what_is_known() {
        let bytes = full().to_bytes();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            r#"{"host":"alpha","made":1795248000,"model":"Foo \"2000\"","serial":"S1\n","source":"/dev/sdb1","version":"0.1.0"}"#
        );
        assert_eq!(Provenance::default().to_bytes(), b"{}");
    }

    #[test]
    fn other_keys_are_passed_over() {
        let found = Provenance::from_bytes(br#" {"made": 7, "colour": ["red"], "host": "a"} "#);
        let expected = Provenance {
            made: Some(7),
            host: Some("a".to_owned()),
            ..Provenance::default()
        };
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn what_is_no_such_object_is_none() {
        let deep = [vec![b'['; 2000], vec![b']'; 2000]].concat();
        let deep = [br#"{"a":"#.as_slice(), &deep, b"}"].concat();
        for bytes in [
            b"".as_slice(),
            b"made",
            b"[]",
            b"{} {}",
            b"{\"host\":\"\xff\"}",
            b"{\"host\":\"\n\"}",
            br#"{"host":7}"#,
            br#"{"host":null}"#,
            br#"{"made":"7"}"#,
            br#"{"made":-1}"#,
            br#"{"made":1.5}"#,
            br#"{"made":18446744073709551616}"#,
            &deep,
        ] {
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(Provenance::from_bytes(bytes), None, "{text}");
        }
    }

    #[test]
    fn of_a_long_path_the_end_is_kept() {
        let path = format!("/{}/disk.raw", "d".repeat(3000));
        let long = Provenance {
            source: Some(path),
            ..full()
        };
        let source = Provenance::from_bytes(&long.to_bytes()).unwrap().source.unwrap();
        assert_eq!(source.len(), MAX_SOURCE);
        assert!(source.starts_with("\u{2026}ddd") && source.ends_with("ddd/disk.raw"));
    }

    proptest! {
        #[test]
        fn whatever_it_holds_it_is_short_enough_and_comes_back(texts in prop::collection::vec("\\PC*|[\\x00-\\x20]{0,5000}", 5), made: u64) {
            let [host, source, model, serial, version] = texts.try_into().unwrap();
            let provenance = Provenance {
                made: Some(made),
                host: Some(host),
                source: Some(source),
                model: Some(model),
                serial: Some(serial),
                version: Some(version),
            };
            let bytes = provenance.to_bytes();
            prop_assert!(to_u64(bytes.len()) <= MAX_PROVENANCE);
            let read = Provenance::from_bytes(&bytes).unwrap();
            prop_assert_eq!(read.to_bytes(), bytes);
            if json_length(provenance.source.as_deref().unwrap()) <= MAX_SOURCE {
                prop_assert_eq!(read.source, provenance.source);
            }
        }
    }
}
