//! Which rows does a model read out of a text, and which texts say them?
//!
//! [`Records`] are some [`Fields`] several times: of a text that tells three facts, three rows. They are a JSON
//! object with one member, `rows`, a list of records as `record` has them; a model on this machine writes
//! under [`Records::expression`], a server is given [`Records::schema`].
//!
//! What was said is read row by row: a row that says nothing is none, one that was said before is not said
//! again, and of a list that was cut off those count that stand there whole. Small models run on, and what they
//! said until then is as good as before.

use perennial_rows::Value;
use perennial_rows::encoding::Encoder;
use serde_json::{Value as Json, json};

use crate::record::Fields;

/// Most rows of one text.
pub const MAX_RECORDS: usize = 64;
/// The member that holds the rows.
const ROWS: &str = "rows";
/// How what was said becomes rows: another version when it is read otherwise.
const RECORDS_VERSION: u64 = 1;
/// Places of a reply where an object may begin that are tried, for each row.
const BEGINNINGS_A_ROW: usize = 4;

/// Rows of the same fields, up to a number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Records {
    fields: Fields,
    at_most: usize,
}

impl Records {
    /// Up to so many rows of these fields.
    ///
    /// # Errors
    /// No rows, or more than [`MAX_RECORDS`].
    pub fn new(fields: Fields, at_most: usize) -> Result<Self, String> {
        match at_most {
            1..=MAX_RECORDS => Ok(Self { fields, at_most }),
            _ => Err(format!("{at_most} rows; from 1 to {MAX_RECORDS}")),
        }
    }

    /// What a row has.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Most rows.
    pub fn at_most(&self) -> usize {
        self.at_most
    }

    /// How they look, for a model.
    pub(crate) fn form(&self) -> String {
        format!("{{\"{ROWS}\": [{}, ...]}}", self.fields.form())
    }

    /// A regular expression of all of them, as a model on this machine writes them.
    pub fn expression(&self) -> String {
        let row = self.fields.expression();
        let more = self.at_most - 1;
        format!(r#"\{{"{ROWS}": \[({row}(, {row}){{0,{more}}})?\]\}}"#)
    }

    /// A JSON schema of all of them.
    pub fn schema(&self) -> Json {
        json!({
            "type": "object",
            "properties": {
                (ROWS): {"type": "array", "items": self.fields.schema(), "maxItems": self.at_most},
            },
            "required": [ROWS],
            "additionalProperties": false,
        })
    }

    /// The rows that a model said, be there words around them; `None` where it said none and no list
    /// without any either.
    pub fn read(&self, text: &str) -> Option<Value> {
        let mut rows = Vec::new();
        let mut rest = text;
        for _ in 0..BEGINNINGS_A_ROW * (self.at_most + 1) {
            let Some(begin) = rest.find('{') else {
                break;
            };
            let mut said = serde_json::Deserializer::from_str(&rest[begin..]).into_iter::<Json>();
            match said.next() {
                Some(Ok(object)) => {
                    let n_read = said.byte_offset();
                    if let Some(Json::Array(all)) = object.get(ROWS) {
                        return Some(self.value(all));
                    }
                    rows.push(object);
                    rest = &rest[begin + n_read..];
                }
                // It does not end, or is none: what is in it may be whole.
                _ => rest = &rest[begin + 1..],
            }
        }
        let is_none = rows.is_empty() && text.split_whitespace().collect::<String>().contains("[]");
        (is_none || !rows.is_empty()).then(|| self.value(&rows))
    }

    /// These as far as they are rows of the fields: a list of JSON objects.
    pub fn value(&self, said: &[Json]) -> Value {
        let mut rows: Vec<Json> = Vec::new();
        for row in said {
            let row = self.fields.value(row).to_json();
            let members = row.as_object();
            let says_nothing = members.is_none_or(|all| all.values().all(Json::is_null));
            if rows.len() < self.at_most && !says_nothing && !rows.contains(&row) {
                rows.push(row);
            }
        }
        Value::from_json(&Json::Array(rows))
    }

    /// Writes all that tells these from others.
    pub(crate) fn encode(&self, encoder: &mut Encoder) {
        encoder.number(RECORDS_VERSION).number(self.at_most as u64);
        encoder.text(&self.expression());
        self.fields.encode(encoder);
    }
}

#[cfg(test)]
mod tests {
    use perennial_model::grammar::Vocabulary;

    use super::*;
    use crate::record::{Field, FieldType};

    fn triples(at_most: usize) -> Records {
        let field = |name: &str, of| Field {
            name: name.into(),
            of,
        };
        let fields = [
            field("who", FieldType::Text),
            field("n", FieldType::Integer),
        ];
        Records::new(Fields::new(fields).expect("fields"), at_most).expect("records")
    }

    #[test]
    fn what_was_said_becomes_rows_and_what_says_nothing_is_none() {
        let row = |who: &str, n: i64| json!({"who": who, "n": n});
        let (a, b) = (row("a", 1), row("b", 2));
        for (said, expected) in [
            (r#"{"rows": []}"#, Some(vec![])),
            (r#"{"rows": [{"who": "a", "n": 1}]}"#, Some(vec![a.clone()])),
            // Twice is once, and nothing is none.
            (
                r#"{"rows": [{"who": "a", "n": 1}, {"who": null, "n": null}, {"who": "a", "n": "1"}, 7]}"#,
                Some(vec![a.clone()]),
            ),
            // Without the member, with words around, and cut off.
            (
                r#"Here: [{"who": "a", "n": 1}, {"n": 2, "who": "b"}]."#,
                Some(vec![a.clone(), b.clone()]),
            ),
            (r#"{"who": "a", "n": 1}"#, Some(vec![a.clone()])),
            (
                r#"{"rows": [{"who": "a", "n": 1}, {"who": "b", "n": 2}, {"who": "#,
                Some(vec![a.clone(), b.clone()]),
            ),
            // No more than were asked for.
            (
                r#"{"rows": [{"who":"a","n":1},{"who":"b","n":2},{"n":3},{"n":4}]}"#,
                Some(vec![a.clone(), b.clone(), json!({"who": null, "n": 3})]),
            ),
            ("[ ]", Some(vec![])),
            (r#"{"rows": ["#, None),
            ("I cannot say {that}.", None),
        ] {
            let read = triples(3).read(said).map(|value| value.to_json());
            assert_eq!(read, expected.map(Json::Array), "{said}");
        }
    }

    /// Whether a text is one of the expression's, whole; `None` where it cannot become one.
    fn is_whole(records: &Records, text: &str) -> Option<bool> {
        let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
        tokens.push(Vec::new());
        let vocabulary = Vocabulary::new(tokens, Some(256)).expect("a vocabulary");
        let mut grammar = vocabulary
            .grammar(&records.expression())
            .expect("a grammar");
        let mut bytes = text.bytes().map(u32::from);
        loop {
            for forced in grammar.forced().expect("forced") {
                match bytes.next() {
                    None => return Some(false),
                    Some(byte) if byte == forced => {}
                    Some(_) => return None,
                }
            }
            match bytes.next() {
                None => return Some(grammar.is_complete()),
                Some(byte) => grammar.write(byte).ok()?,
            };
        }
    }

    #[test]
    fn the_expression_is_of_all_that_is_read_and_has_an_end() {
        let one = r#"{"rows": [{"who": "a", "n":1}"#;
        for (text, expected) in [
            (r#"{"rows": []}"#.to_owned(), Some(true)),
            (format!("{one}]}}"), Some(true)),
            (format!(r#"{one}, {{"who":null, "n": -20}}]}}"#), Some(true)),
            (format!("{one}, "), Some(false)),
            (one.to_owned(), Some(false)),
            (r#"{"rows": "#.to_owned(), Some(false)),
            (r#"{"rows": [1"#.to_owned(), None),
            // A third of two.
            (
                format!(r#"{one}, {{"who":null, "n": 1}}, {{"who":null, "n": 1}}"#),
                None,
            ),
        ] {
            assert_eq!(is_whole(&triples(2), &text), expected, "{text}");
        }
        assert_eq!(is_whole(&triples(1), &format!("{one}, ")), None);
        assert!(Records::new(triples(1).fields, 0).is_err());
        assert!(Records::new(triples(1).fields, MAX_RECORDS + 1).is_err());
    }
}
