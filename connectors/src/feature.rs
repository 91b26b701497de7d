//! Which parts of the crate may a program be built without?
//!
//! Each has a feature of its name, on by default. Its types are there in every build, so that
//! nobody who names them asks how the crate was built; without the feature nothing can be made of
//! them, and opening one says so ([`Error::NotBuilt`]).

use std::fmt;

use crate::Error;

/// A part of the crate that a program may be built without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Feature {
    /// PDF, Word and HTML files, in folders.
    Documents,
    /// Topics, as sources and sinks.
    Kafka,
    /// Tables in Parquet files.
    Parquet,
    /// Records that are posted, and answers that are.
    Http,
}

impl Feature {
    /// By which a build asks for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Documents => "documents",
            Self::Kafka => "kafka",
            Self::Parquet => "parquet",
            Self::Http => "http",
        }
    }

    /// Whether this program has it.
    pub const fn is_built(self) -> bool {
        match self {
            Self::Documents => cfg!(feature = "documents"),
            Self::Kafka => cfg!(feature = "kafka"),
            Self::Parquet => cfg!(feature = "parquet"),
            Self::Http => cfg!(feature = "http"),
        }
    }

    /// Asks for it before it is needed.
    ///
    /// # Errors
    /// [`Error::NotBuilt`] if this program has it not.
    pub const fn require(self) -> Result<(), Error> {
        match self.is_built() {
            true => Ok(()),
            false => Err(Error::NotBuilt { feature: self }),
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Documents => "PDF, Word and HTML",
            Self::Kafka => "Kafka",
            Self::Parquet => "Parquet",
            Self::Http => "HTTP",
        })
    }
}
