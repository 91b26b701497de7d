//! What can go wrong between a caller and a memory.

use crate::engine::Error;

/// Errors of a memory's interface.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// Nothing is said.
    #[error("the {what} is empty")]
    Empty {
        /// What it is: a text, a question, a name.
        what: &'static str,
    },
    /// More than an entry or a question may have.
    #[error("the {what} has {n_bytes} bytes; at most {most} are taken")]
    TooLong {
        /// What it is.
        what: &'static str,
        /// How long it is.
        n_bytes: usize,
        /// How long it may be.
        most: usize,
    },
    /// A character that is not shown but acted upon.
    #[error("the {what} holds the control character U+{character:04X} at byte {at}")]
    ControlCharacter {
        /// What it is.
        what: &'static str,
        /// The character.
        character: u32,
        /// Where.
        at: usize,
    },
    /// A number out of its range.
    #[error("{what} must be {allowed}, not {given}")]
    OutOfRange {
        /// What it is.
        what: &'static str,
        /// What is allowed.
        allowed: &'static str,
        /// What was given.
        given: String,
    },
    /// It is not there, or not for this reader: which of the two is not told.
    #[error("there is no namespace `{namespace}`{}", for_reader(.reader.as_deref()))]
    NoNamespace {
        /// The name asked for.
        namespace: String,
        /// Who asks; the owner where nobody is named.
        reader: Option<String>,
    },
    /// A memory of what a source or a view says takes nothing by hand.
    #[error("memory `{memory}` follows from `{from}`, which is not fed by hand; {instead}")]
    NotByHand {
        /// The memory.
        memory: String,
        /// What it follows from.
        from: String,
        /// What to do.
        instead: &'static str,
    },
    /// The relation that a memory is made from lacks a column that it names.
    #[error("`{from}` has no column `{column}`; it has {columns}")]
    NoColumn {
        /// The relation.
        from: String,
        /// The column.
        column: String,
        /// Those that there are.
        columns: String,
    },
    /// The question has no vector.
    #[error("the question cannot be embedded: {reason}")]
    NotEmbedded {
        /// Why.
        reason: String,
    },
    /// A further score cannot be made.
    #[error("the entries cannot be scored: {reason}")]
    NotScored {
        /// Why.
        reason: String,
    },
    /// Nobody can read what latent recall compares.
    #[error("memory `{memory}` cannot be recalled by latent keys: {reason}")]
    NoLatent {
        /// The memory.
        memory: String,
        /// Why.
        reason: &'static str,
    },
    /// A query of the memory's own cannot be bound.
    #[error("memory `{memory}` cannot be declared: {reason}")]
    NotDeclared {
        /// The memory.
        memory: String,
        /// Why.
        reason: String,
    },
    /// The engine refuses, or cannot go on.
    #[error(transparent)]
    Engine(#[from] Error),
}

fn for_reader(reader: Option<&str>) -> String {
    reader.map_or_else(String::new, |reader| format!(" that {reader} may read"))
}

/// A text that may be stored or asked.
pub(super) fn check(what: &'static str, text: &str, most: usize) -> Result<(), MemoryError> {
    if text.trim().is_empty() {
        return Err(MemoryError::Empty { what });
    }
    if text.len() > most {
        let n_bytes = text.len();
        return Err(MemoryError::TooLong {
            what,
            n_bytes,
            most,
        });
    }
    let is_control = |c: char| c.is_control() && !matches!(c, '\n' | '\t' | '\r');
    match text.char_indices().find(|(_, c)| is_control(*c)) {
        Some((at, c)) => Err(MemoryError::ControlCharacter {
            what,
            character: c.into(),
            at,
        }),
        None => Ok(()),
    }
}
