//! What does a Markdown file say of itself before its text?
//!
//! ```text
//! ---
//! status: draft
//! tags: [ferry, prices]
//! ---
//! ```
//! Front matter is a block of YAML between a first line `---` and a line `---` or `...`, which is a
//! mapping of names to values. Lists and mappings are JSON; of scalars without quotes, YAML's core
//! schema tells null, booleans, integers and floats; all others are texts (dates, too: a schema
//! may declare them to be timestamps).
//!
//! The block stays in the text as well, where a model reads it: what is read here changes no text,
//! and so no answer.
//!
//! # Invariants
//! - What is not such a block is text and nothing else, never an error: two rules across the page
//!   look like one. That holds for a block over [`LIMIT`], for one that is damaged, names a thing
//!   twice, nests deeper than [`MAX_DEPTH`], or holds aliases, by which a small block could become a
//!   large one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use perennial_rows::Value;
use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};
use serde_json::{Map, Number};

use crate::attributes::Attribute;

/// The longest front matter, in bytes.
const LIMIT: usize = 64 << 10;
/// Lists and mappings within one another.
const MAX_DEPTH: usize = 32;

/// Names and values of a file's front matter; none if it has none.
pub(super) fn front_matter(text: &str) -> Vec<Attribute> {
    let Some(block) = block(text) else {
        return Vec::new();
    };
    // A parser that panics has met no YAML.
    let read = catch_unwind(AssertUnwindSafe(|| mapping(block)));
    let fields = read.ok().flatten().unwrap_or_default();
    let fields = fields.into_iter();
    fields
        .map(|(name, value)| (Arc::from(name), Value::from_json(&value)))
        .collect()
}

/// The lines between the marks.
fn block(text: &str) -> Option<&str> {
    let mut lines = text.split_inclusive('\n');
    let is_mark = |line: &str, mark: &str| line.trim_end() == mark;
    let first = lines.next().filter(|line| is_mark(line, "---"))?;
    let mut n_bytes = 0;
    for line in lines {
        if is_mark(line, "---") || is_mark(line, "...") {
            return text.get(first.len()..first.len() + n_bytes);
        }
        n_bytes += line.len();
        if n_bytes > LIMIT {
            break;
        }
    }
    None
}

/// The one document of a block, if it is a mapping.
fn mapping(block: &str) -> Option<Map<String, serde_json::Value>> {
    let mut events = Events {
        parser: Parser::new_from_str(block),
    };
    events.expect(|event| matches!(event, Event::StreamStart))?;
    events.expect(|event| matches!(event, Event::DocumentStart(_)))?;
    let first = events.next()?;
    let found = events.value(first, 0)?;
    events.expect(|event| matches!(event, Event::DocumentEnd))?;
    events.expect(|event| matches!(event, Event::StreamEnd))?;
    match found {
        serde_json::Value::Object(fields) => Some(fields),
        _ => None,
    }
}

/// The events of a block, up to its first error.
struct Events<'a> {
    parser: Parser<'a, StrInput<'a>>,
}

impl<'a> Events<'a> {
    fn next(&mut self) -> Option<Event<'a>> {
        let (event, _) = self.parser.next_event()?.ok()?;
        Some(event)
    }

    fn expect(&mut self, is_so: impl Fn(&Event<'_>) -> bool) -> Option<()> {
        self.next().filter(is_so).map(|_| ())
    }

    /// The value that begins with an event, within `depth` others.
    fn value(&mut self, event: Event<'a>, depth: usize) -> Option<serde_json::Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        match event {
            Event::Scalar(text, style, _, tag) => {
                let is_text = style != ScalarStyle::Plain || tag.as_deref().is_some_and(is_string);
                Some(match is_text {
                    true => text.as_ref().into(),
                    false => scalar(&text),
                })
            }
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => return Some(items.into()),
                        event => items.push(self.value(event, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut fields = Map::new();
                loop {
                    let name = match self.next()? {
                        Event::MappingEnd => return Some(fields.into()),
                        Event::Scalar(name, ..) => name.into_owned(),
                        _ => return None,
                    };
                    let first = self.next()?;
                    let value = self.value(first, depth + 1)?;
                    if fields.insert(name, value).is_some() {
                        return None;
                    }
                }
            }
            _ => None,
        }
    }
}

fn is_string(tag: &Tag) -> bool {
    tag.is_yaml_core_schema() && tag.suffix == "str"
}

/// What a scalar without quotes is, by YAML's core schema (1.2, chapter 10.3).
fn scalar(text: &str) -> serde_json::Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return serde_json::Value::Null,
        "true" | "True" | "TRUE" => return true.into(),
        "false" | "False" | "FALSE" => return false.into(),
        _ => {}
    }
    let integer = match (text.strip_prefix("0x"), text.strip_prefix("0o")) {
        (Some(digits), _) if is_unsigned(digits) => i64::from_str_radix(digits, 16).ok(),
        (_, Some(digits)) if is_unsigned(digits) => i64::from_str_radix(digits, 8).ok(),
        _ => text.parse().ok(),
    };
    // Rust reads more as a float than YAML does, as `inf`; what is beyond 64 bits stays as it is
    // written, too, for a float might be another number.
    let is_float = text.contains(['.', 'e', 'E'])
        && text.bytes().any(|byte| byte.is_ascii_digit())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let float = || {
        text.parse()
            .ok()
            .filter(|_| is_float)
            .and_then(Number::from_f64)
    };
    match (integer, float()) {
        (Some(integer), _) => integer.into(),
        (None, Some(float)) => serde_json::Value::Number(float),
        (None, None) => text.into(),
    }
}

fn is_unsigned(digits: &str) -> bool {
    !digits.starts_with(['+', '-'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<(String, Value)> {
        let fields = front_matter(text).into_iter();
        let mut fields: Vec<_> = fields
            .map(|(name, value)| (name.to_string(), value))
            .collect();
        fields.sort();
        fields
    }

    fn one(yaml: &str) -> Option<Value> {
        let fields = read(&format!("---\na: {yaml}\n---\n\nText.\n"));
        fields.into_iter().next().map(|(_, value)| value)
    }

    #[test]
    fn names_and_values_are_read() {
        let text = "---\nstatus: draft\nn: 3\ntags:\n  - b\n  - {c: 1.5}\n---\n# Title\n";
        let expected = [
            ("n", Value::Integer(3)),
            ("status", "draft".into()),
            ("tags", Value::Json(r#"["b",{"c":1.5}]"#.into())),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(read(text), expected);
        assert_eq!(read(&text.replace("---\n#", "...\n#")), expected);
    }

    #[test]
    fn scalars_are_those_of_the_core_schema() {
        for (yaml, expected) in [
            ("~", Value::Null),
            ("", Value::Null),
            ("True", true.into()),
            ("yes", "yes".into()),
            ("-7", Value::Integer(-7)),
            ("0x1F", Value::Integer(31)),
            ("0o17", Value::Integer(15)),
            ("99999999999999999999", "99999999999999999999".into()),
            ("1.50", 1.5.into()),
            (".5", 0.5.into()),
            ("1e3", 1000.0.into()),
            ("inf", "inf".into()),
            ("1.2.3", "1.2.3".into()),
            ("2024-05-01", "2024-05-01".into()),
            ("\"7\"", "7".into()),
            ("'true'", "true".into()),
            ("!!str 7", "7".into()),
            ("a b", "a b".into()),
        ] {
            assert_eq!(one(yaml), Some(expected), "{yaml:?}");
        }
    }

    #[test]
    fn what_is_no_front_matter_is_text() {
        let deep = format!("---\na: {}{}\n---\n", "[".repeat(40), "]".repeat(40));
        let long = format!("---\na: {}\n---\n", "x".repeat(LIMIT));
        for text in [
            "",
            "---",
            "---\nA rule above.\n\n---\nA rule below.\n",
            "---\n- a\n---\n",
            "---\na: 1\n",
            "Text.\n---\na: 1\n---\n",
            "---\na: [1\n---\n",
            "---\na: 1\na: 2\n---\n",
            "---\na: &x 1\nb: *x\n---\n",
            "---\n? [a]\n: 1\n---\n",
            &deep,
            &long,
        ] {
            assert!(read(text).is_empty(), "{text:.40?}");
        }
    }

    proptest! {
        #[test]
        fn any_block_is_read_or_left(block in "[-a-z0-9:#&*!|>'\"%@`{}\\[\\], \n?\t]{0,80}") {
            let _ = front_matter(&format!("---\n{block}\n---\n"));
        }

        #[test]
        fn any_text_is_read_or_left(text in "(---\n)?\\PC{0,80}(\n---\n)?") {
            let _ = front_matter(&text);
        }
    }
}
