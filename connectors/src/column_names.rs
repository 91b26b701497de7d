//! Which columns of a table, or fields of a line, make a record?

/// Which columns of a table, or fields of a line of JSON, make a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnNames {
    /// The primary key: text or integers.
    pub key: String,
    /// The document's text.
    pub text: String,
    /// Its title.
    pub title: Option<String>,
    /// Its time: milliseconds since 1970, or RFC 3339.
    pub updated_at: Option<String>,
}

impl Default for ColumnNames {
    /// `key`, `text`, and nothing else.
    fn default() -> Self {
        Self {
            key: "key".to_owned(),
            text: "text".to_owned(),
            title: None,
            updated_at: None,
        }
    }
}

impl ColumnNames {
    /// Gives the column of a field (`key`, `text`, `title`, `updated_at`) another name. False if
    /// there is no such field.
    pub fn set(&mut self, field: &str, column: impl Into<String>) -> bool {
        match field {
            "key" => self.key = column.into(),
            "text" => self.text = column.into(),
            "title" => self.title = Some(column.into()),
            "updated_at" => self.updated_at = Some(column.into()),
            _ => return false,
        }
        true
    }

    /// Fields of a record, with those of a line that stand for them: one that is given no other name has
    /// its own.
    pub(crate) fn of_line(&self) -> [(&'static str, &str); 4] {
        [
            ("key", &self.key),
            ("text", &self.text),
            ("title", self.title.as_deref().unwrap_or("title")),
            (
                "updated_at",
                self.updated_at.as_deref().unwrap_or("updated_at"),
            ),
        ]
    }

    /// Fields of a record, with the columns that hold them.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let optional = [("title", &self.title), ("updated_at", &self.updated_at)];
        let optional = optional.into_iter();
        [("key", &*self.key), ("text", &*self.text)]
            .into_iter()
            .chain(optional.filter_map(|(field, column)| Some((field, column.as_deref()?))))
    }
}
