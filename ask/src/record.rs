//! Which typed values does a model read out of a row, and which texts say them?
//!
//! A record is a JSON object with one member a [`Field`], in their order. A model on this machine
//! writes under [`Fields::expression`], so that it can write nothing else; a server is given
//! [`Fields::schema`]. What any model said becomes a value by [`Fields::value`], which is total: a
//! member that is missing, or of another type, is null.

use std::sync::Arc;

use perennial_rows::encoding::Encoder;
use perennial_rows::{Type, Value};
use serde_json::{Map, Value as Json, json};

use crate::task::check_labels;

/// Fields of one record.
const MAX_FIELDS: usize = 32;
/// Places of a reply where an object may begin that are tried.
const MAX_BEGINNINGS: usize = 16;
/// How what was said becomes a record, as far as neither fields nor their expression tell: another
/// version when it is read otherwise.
const RECORD_VERSION: u64 = 2;
/// Characters of a text in a record.
pub const MAX_FIELD_CHARS: usize = 240;

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// A text of up to [`MAX_FIELD_CHARS`] characters; longer ones are cut.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Float,
    /// True or false.
    Boolean,
    /// A date, or an instant to the second.
    Timestamp,
    /// One of these.
    OneOf(Arc<[Arc<str>]>),
}

/// A value to be read out of a row. Whatever it holds, it may be null: the row may not say it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// What it is called, to the model, too.
    pub name: Arc<str>,
    /// What it holds.
    pub of: FieldType,
}

/// The fields of a record, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fields(Arc<[Field]>);

impl FieldType {
    /// The field type of a column's type, where there is one.
    pub fn of_column(of: Type) -> Option<Self> {
        match of {
            Type::Text => Some(Self::Text),
            Type::Integer => Some(Self::Integer),
            Type::Float => Some(Self::Float),
            Type::Boolean => Some(Self::Boolean),
            Type::Timestamp => Some(Self::Timestamp),
            _ => None,
        }
    }

    /// The type of the column that it becomes.
    pub fn column(&self) -> Type {
        match self {
            Self::Text | Self::OneOf(_) => Type::Text,
            Self::Integer => Type::Integer,
            Self::Float => Type::Float,
            Self::Boolean => Type::Boolean,
            Self::Timestamp => Type::Timestamp,
        }
    }

    /// What stands in its place where a prompt shows the form of a record.
    fn form(&self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Integer => "whole number".to_owned(),
            Self::Float => "number".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::Timestamp => "\"YYYY-MM-DD\" or \"YYYY-MM-DD hh:mm\"".to_owned(),
            Self::OneOf(labels) => {
                let labels = labels.iter().map(|label| Json::from(&**label).to_string());
                labels.collect::<Vec<_>>().join(" or ")
            }
        }
    }

    /// A regular expression of its texts in JSON, but null.
    fn expression(&self) -> String {
        match self {
            Self::Text => {
                format!(r#""([^"\\\x00-\x1f\x7f]|\\["\\/bfnrt]){{1,{MAX_FIELD_CHARS}}}""#)
            }
            Self::Integer => "-?(0|[1-9][0-9]{0,17})".to_owned(),
            Self::Float => r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,6})?".to_owned(),
            Self::Boolean => "true|false".to_owned(),
            Self::Timestamp => {
                let day = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])";
                let time = "( ([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?)?";
                format!("\"{day}{time}\"")
            }
            Self::OneOf(labels) => {
                let labels = labels
                    .iter()
                    .map(|label| escaped(&Json::from(&**label).to_string()));
                labels.collect::<Vec<_>>().join("|")
            }
        }
    }

    fn schema(&self) -> Json {
        match self {
            Self::Text | Self::Timestamp => json!({"type": ["string", "null"]}),
            Self::Integer => json!({"type": ["integer", "null"]}),
            Self::Float => json!({"type": ["number", "null"]}),
            Self::Boolean => json!({"type": ["boolean", "null"]}),
            Self::OneOf(labels) => {
                let labels = labels.iter().map(|label| Json::from(&**label));
                let all: Vec<Json> = labels.chain([Json::Null]).collect();
                json!({"type": ["string", "null"], "enum": all})
            }
        }
    }

    /// What was said, as this type has it; null where it has nothing of it.
    fn value(&self, said: &Json) -> Json {
        let text = said.as_str().map(str::trim).unwrap_or_default();
        let number = |said: &Json| said.as_f64().or_else(|| text.parse().ok());
        let found = match self {
            Self::Text => match said {
                Json::String(_) => Some(text.to_owned()),
                Json::Number(_) | Json::Bool(_) => Some(said.to_string()),
                _ => None,
            }
            .filter(|text| !is_nothing(text))
            .map(|text| {
                text.chars()
                    .take(MAX_FIELD_CHARS)
                    .collect::<String>()
                    .into()
            }),
            Self::Integer => {
                let whole = said.as_i64().or_else(|| text.parse().ok());
                // A whole number may be written as one that is not: 3.0.
                let exact = |x: &f64| x.fract() == 0.0 && x.abs() < 9e15;
                let whole = whole.or_else(|| number(said).filter(exact).map(|x| x as i64));
                whole.map(Json::from)
            }
            Self::Float => number(said).filter(|x| x.is_finite()).map(Json::from),
            Self::Boolean => {
                let spelled = match text.to_ascii_lowercase().as_str() {
                    "true" | "yes" => Some(true),
                    "false" | "no" => Some(false),
                    _ => None,
                };
                said.as_bool().or(spelled).map(Json::from)
            }
            Self::Timestamp => (!is_nothing(text)).then(|| text.into()),
            Self::OneOf(labels) => {
                // As it is written first: labels may differ in case, or in blanks around them, only.
                let exact = labels.iter().find(|label| said.as_str() == Some(label));
                let mut like = labels.iter();
                let like = like.find(|label| label.trim().eq_ignore_ascii_case(text));
                exact.or(like).map(|label| Json::from(&**label))
            }
        };
        found.unwrap_or(Json::Null)
    }
}

/// Whether a text says that there is nothing to say.
fn is_nothing(text: &str) -> bool {
    text.is_empty()
        || ["null", "n/a"]
            .iter()
            .any(|word| text.eq_ignore_ascii_case(word))
}

impl Fields {
    /// These fields.
    ///
    /// # Errors
    /// Why they are none, for people: no field, too many, two of one name, labels that tell nothing
    /// apart.
    pub fn new(fields: impl IntoIterator<Item = Field>) -> Result<Self, String> {
        let fields: Arc<[Field]> = fields.into_iter().collect();
        if fields.is_empty() {
            return Err("a record of no fields says nothing".to_owned());
        }
        if fields.len() > MAX_FIELDS {
            return Err(format!("{} fields; at most {MAX_FIELDS}", fields.len()));
        }
        for (at, field) in fields.iter().enumerate() {
            if field.name.trim().is_empty() {
                return Err("a field has no name".to_owned());
            }
            if fields[..at].iter().any(|other| other.name == field.name) {
                return Err(format!("the field `{}` is given twice", field.name));
            }
            if let FieldType::OneOf(labels) = &field.of {
                check_labels(labels).map_err(|what| format!("of `{}`: {what}", field.name))?;
            }
        }
        Ok(Self(fields))
    }

    /// The fields.
    pub fn all(&self) -> &[Field] {
        &self.0
    }

    /// How a record looks, for a model.
    pub(crate) fn form(&self) -> String {
        let members = self.0.iter().map(|field| {
            let name = Json::from(&*field.name);
            format!("{name}: {}", field.of.form())
        });
        format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
    }

    /// A regular expression of all records, as a model on this machine writes them.
    pub fn expression(&self) -> String {
        let members = self.0.iter().map(|field| {
            let name = escaped(&Json::from(&*field.name).to_string());
            // The blank is the value's: words begin with one.
            format!("{name}: ?(null|{})", field.of.expression())
        });
        format!(r"\{{{}\}}", members.collect::<Vec<_>>().join(", "))
    }

    /// A JSON schema of all records.
    pub fn schema(&self) -> Json {
        let properties = self.0.iter();
        let properties: Map<String, Json> = properties
            .map(|field| (field.name.to_string(), field.of.schema()))
            .collect();
        let names: Vec<&str> = self.0.iter().map(|field| &*field.name).collect();
        json!({
            "type": "object",
            "properties": properties,
            "required": names,
            "additionalProperties": false,
        })
    }

    /// The record that a model said, be there words around it, braces among them: the first object that
    /// has a member of these fields, or that is empty. `None` where there is none.
    pub fn read(&self, text: &str) -> Option<Value> {
        let beginnings = text.match_indices('{').take(MAX_BEGINNINGS);
        let mut objects = beginnings.filter_map(|(begin, _)| {
            let said = serde_json::Deserializer::from_str(&text[begin..]);
            said.into_iter::<Json>().next()?.ok()
        });
        let is_record = |said: &Json| {
            said.as_object().is_some_and(|members| {
                let mut fields = self.0.iter();
                members.is_empty() || fields.any(|field| members.contains_key(&*field.name))
            })
        };
        objects.find(is_record).map(|said| self.value(&said))
    }

    /// A record with these members as far as they are of its fields; what is of none is left out.
    pub fn value(&self, said: &Json) -> Value {
        let members = self.0.iter().map(|field| {
            let said = said.get(&*field.name).unwrap_or(&Json::Null);
            (field.name.to_string(), field.of.value(said))
        });
        Value::from_json(&Json::Object(members.collect()))
    }

    /// Writes all that tells these fields from others.
    pub(crate) fn encode(&self, encoder: &mut Encoder) {
        encoder.number(RECORD_VERSION).text(&self.expression());
        encoder.number(self.0.len() as u64);
        for field in &*self.0 {
            encoder.text(&field.name);
            match &field.of {
                FieldType::Text => encoder.number(1),
                FieldType::Integer => encoder.number(2),
                FieldType::Float => encoder.number(3),
                FieldType::Boolean => encoder.number(4),
                FieldType::Timestamp => encoder.number(5),
                FieldType::OneOf(labels) => {
                    encoder.number(6).number(labels.len() as u64);
                    labels
                        .iter()
                        .fold(&mut *encoder, |encoder, label| encoder.text(label))
                }
            };
        }
    }
}

/// A text as a regular expression of itself. `<` and `>` mean themselves; escaped, they are the
/// beginning and the end of a word.
fn escaped(text: &str) -> String {
    let mut expression = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_punctuation() && !matches!(c, '<' | '>') {
            expression.push('\\');
        }
        expression.push(c);
    }
    expression
}

#[cfg(test)]
mod tests {
    use perennial_model::grammar::Vocabulary;
    use proptest::prelude::*;

    use super::*;

    fn fields() -> Fields {
        let labels = [
            "good",
            "GOOD",
            " good ",
            "not \"so\" {good}",
            "(a|b)",
            "<b>!#$%&'*+,-./:;=?@[\\]^_`~",
        ];
        let labels = labels.map(Arc::from);
        let all = [
            ("product", FieldType::Text),
            ("n", FieldType::Integer),
            ("price €", FieldType::Float),
            ("is_new", FieldType::Boolean),
            ("n < 10 & > 2", FieldType::Boolean),
            ("at", FieldType::Timestamp),
            ("mood", FieldType::OneOf(labels.into())),
        ];
        let all = all.map(|(name, of)| Field {
            name: name.into(),
            of,
        });
        Fields::new(all).expect("fields")
    }

    #[test]
    fn what_was_said_becomes_typed_values_and_what_does_not_fit_is_null() {
        let fields = fields();
        let record = |said: &str| fields.read(said).map(|value| value.to_json());
        let null = json!({"product": null, "n": null, "price €": null, "is_new": null,
            "n < 10 & > 2": null, "at": null, "mood": null});
        let with = |name: &str, value: Json| {
            let mut record = null.clone();
            record[name] = value;
            Some(record)
        };
        for (said, expected) in [
            ("{}", Some(null.clone())),
            ("```json\n{\"n\": 3}\n```", with("n", 3.into())),
            ("{\"n\": \" 3\"}", with("n", 3.into())),
            ("{\"n\": 3.0}", with("n", 3.into())),
            ("{\"n\": 3.5}", Some(null.clone())),
            ("{\"n\": 1e300}", Some(null.clone())),
            ("{\"n\": true}", Some(null.clone())),
            ("{\"price €\": \"12.5\"}", with("price €", 12.5.into())),
            ("{\"price €\": \"nan\"}", Some(null.clone())),
            ("{\"is_new\": \"No\"}", with("is_new", false.into())),
            ("{\"is_new\": 1}", Some(null.clone())),
            (
                "{\"product\": \" a lamp \"}",
                with("product", "a lamp".into()),
            ),
            ("{\"product\": 7}", with("product", "7".into())),
            ("{\"product\": \"N/A\"}", Some(null.clone())),
            ("{\"product\": [\"x\"], \"more\": 1}", Some(null.clone())),
            ("{\"mood\": \"Good\"}", with("mood", "good".into())),
            ("{\"mood\": \"GOOD\"}", with("mood", "GOOD".into())),
            ("{\"mood\": \" good \"}", with("mood", " good ".into())),
            ("{\"mood\": \"  good\"}", with("mood", "good".into())),
            ("Of {the lamp}: {\"n\": 3}, or {more}.", with("n", 3.into())),
            ("{\"record\": {\"n\": 2}}", with("n", 2.into())),
            ("{\"other\": 2}", None),
            ("{\"mood\": \"fine\"}", Some(null.clone())),
            ("{\"at\": \"2024-05-01\"}", with("at", "2024-05-01".into())),
            ("I cannot say.", None),
            ("} and {", None),
            ("[1]", None),
            ("{\"n\": ", None),
        ] {
            assert_eq!(record(said), expected, "{said}");
        }
        let long = format!("{{\"product\": \"{}\"}}", "é".repeat(MAX_FIELD_CHARS + 9));
        let kept = record(&long).and_then(|record| record["product"].as_str().map(str::len));
        assert_eq!(kept, Some(2 * MAX_FIELD_CHARS));
    }

    #[test]
    fn fields_that_are_none_are_refused() {
        let field = |name: &str, of| Field {
            name: name.into(),
            of,
        };
        let of = |labels: &[&str]| {
            FieldType::OneOf(labels.iter().map(|label| Arc::from(*label)).collect())
        };
        for (fields, error) in [
            (vec![], "a record of no fields says nothing"),
            (vec![field(" ", FieldType::Text)], "a field has no name"),
            (
                vec![field("a", FieldType::Text), field("a", FieldType::Float)],
                "the field `a` is given twice",
            ),
            (
                vec![field("a", of(&["x"]))],
                "of `a`: give two labels or more",
            ),
        ] {
            assert_eq!(Fields::new(fields).err().as_deref(), Some(error));
        }
    }

    /// State directories hold these: a change here has all that was read out of rows read anew.
    #[test]
    fn a_digest_names_the_expression_and_how_it_is_read() {
        let encoded = |fields: &Fields| {
            let mut encoder = Encoder::new();
            fields.encode(&mut encoder);
            encoder.digest("test")
        };
        let mut expected = Encoder::new();
        let field = |of| Field {
            name: "n".into(),
            of,
        };
        let number = Fields::new([field(FieldType::Integer)]).expect("fields");
        expected.number(RECORD_VERSION).text(&number.expression());
        expected.number(1).text("n").number(2);
        assert_eq!(encoded(&number), expected.digest("test"));
    }

    /// A vocabulary of single bytes and an end.
    fn bytes() -> Vocabulary {
        let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
        tokens.push(Vec::new());
        Vocabulary::new(tokens, Some(256)).expect("a vocabulary")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever a model likes, what it writes is a record whose values are what it wrote.
        #[test]
        fn what_obeys_the_expression_is_read_as_it_is(
            choices in prop::collection::vec(any::<u16>(), 1..60),
        ) {
            let (vocabulary, fields) = (bytes(), fields());
            let mut grammar = vocabulary.grammar(&fields.expression()).expect("a grammar");
            let mut tokens = Vec::new();
            for choice in choices.iter().cycle().take(4000) {
                tokens.extend(grammar.forced().expect("forced"));
                if grammar.is_complete() {
                    break;
                }
                let set = grammar.allowed().expect("something leads on");
                let is_in = |token: &u32| set[*token as usize / 32] >> (token % 32) & 1 == 1;
                let allowed: Vec<u32> = (0..256).filter(is_in).collect();
                let token = allowed[usize::from(*choice) % allowed.len()];
                grammar.write(token).expect("it leads on");
                tokens.push(token);
            }
            if grammar.is_complete() {
                let text = vocabulary.text(&tokens).expect("UTF-8");
                let said: Json = serde_json::from_str(&text).expect(&text);
                let value = fields.read(&text).map(|value| value.to_json());
                let Some(value) = value else {
                    return Err(TestCaseError::fail(text));
                };
                for field in fields.all() {
                    let (said, read) = (&said[&*field.name], &value[&*field.name]);
                    match (&field.of, said) {
                        // Blanks around a text go, and one that says nothing.
                        (FieldType::Text, Json::String(said)) => {
                            let said = said.trim();
                            prop_assert!(read.as_str() == Some(said) || is_nothing(said));
                        }
                        _ => prop_assert!(said == read || said.as_f64() == read.as_f64(),
                                          "{} {} {}", text, said, read),
                    }
                }
            }
        }
    }
}
