//! How is a file read? Decided by its name.

use std::path::Path;

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// As it stands.
    Text,
    /// As it stands; it has a title and front matter.
    Markdown,
    /// Its text is taken out of it.
    Formatted(Format),
}

/// Files that hold more than their text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Html,
    Docx,
    Pdf,
}

impl Kind {
    /// The kind of the file at a path. What no other kind claims is text.
    pub(super) fn of(path: &Path) -> Self {
        let extension = path.extension().and_then(|found| found.to_str());
        match extension.unwrap_or_default().to_lowercase().as_str() {
            "md" | "markdown" => Self::Markdown,
            "html" | "htm" | "xhtml" => Self::Formatted(Format::Html),
            "docx" => Self::Formatted(Format::Docx),
            "pdf" => Self::Formatted(Format::Pdf),
            _ => Self::Text,
        }
    }
}

#[cfg(feature = "documents")]
impl Format {
    /// What a file of it is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Html => "HTML page",
            Self::Docx => "Word document",
            Self::Pdf => "PDF",
        }
    }
}
