//! What is one version of a record?

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Columns, KEY, Key, SUPERSEDES, Schema, TEXT, TITLE, Tuple, UPDATED_AT, Value};

/// One version of a keyed record. Cloning it copies no text.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Row {
    /// The text; empty where the record has none.
    pub text: Arc<str>,
    /// What the record calls itself.
    pub title: Option<Arc<str>>,
    /// When this version came to be, in milliseconds since 1970 as its source reports it.
    pub updated_at_ms: i64,
    /// Whether that time is the record's own claim: then an older version that comes later is
    /// late, and does not take its place.
    pub is_timed: bool,
    /// Keys of records of the same relation that it makes obsolete, though they stay.
    pub supersedes: Arc<[Key]>,
    /// All else that it holds.
    pub columns: Columns,
}

impl Row {
    /// A row of this text, with nothing else.
    pub fn of_text(text: impl Into<Arc<str>>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    /// The value of a column, those with a meaning included; [`Value::Null`] where the row holds
    /// none of that name.
    pub fn column(&self, key: &Key, name: &str) -> Value {
        match name {
            KEY => Value::Text(key.text()),
            TEXT => Value::Text(self.text.clone()),
            TITLE => self.title.clone().map_or(Value::Null, Value::Text),
            UPDATED_AT => Value::Timestamp(self.updated_at_ms),
            SUPERSEDES if self.supersedes.is_empty() => Value::Null,
            SUPERSEDES => {
                let keys = self.supersedes.iter().map(|key| key.as_str());
                Value::from_json(&keys.collect())
            }
            other => self.columns.get(other).cloned().unwrap_or_default(),
        }
    }

    /// The values of the columns that a schema names, in its order.
    pub fn tuple(&self, key: &Key, schema: &Schema) -> Tuple {
        let columns = schema.columns().iter();
        columns
            .map(|column| self.column(key, &column.name))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Column, Type};

    #[test]
    fn a_tuple_holds_what_a_schema_names() {
        let row = Row {
            supersedes: [Key::new("a")].into(),
            columns: [("price", Value::from(12i64))].into_iter().collect(),
            ..Row::of_text("body")
        };
        let names = [KEY, "price", TEXT, SUPERSEDES, TITLE, "absent"];
        let schema = Schema::new(names.map(|name| Column::new(name, Type::Any)));
        let tuple = row.tuple(&Key::new("k"), &schema);
        let expected = [
            "k".into(),
            12i64.into(),
            "body".into(),
            Value::Json(r#"["a"]"#.into()),
        ];
        assert_eq!(tuple[..4], expected);
        assert_eq!(tuple[4..], [Value::Null, Value::Null]);
    }
}
