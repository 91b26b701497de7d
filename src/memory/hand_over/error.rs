//! Why is something not handed over, or not taken?

use std::io;
use std::path::PathBuf;

use perennial_bank::parcel::ParcelError;
use perennial_model::error::Error as ModelError;
use perennial_model::kv::coding::{BasisError, CodingError};

use super::super::error::MemoryError;
use crate::engine::Error;

/// Why something is not handed over, or not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandOverError {
    /// The parcel is refused, or cannot be written.
    #[error(transparent)]
    Parcel(#[from] ParcelError),
    /// An entry of it is refused, or the memory cannot be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The model refuses a text, or fails.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A fragment that cannot be coded.
    #[error("a fragment cannot be coded: {0}")]
    Coding(#[from] CodingError),
    /// What a coding across layers needs cannot be learnt.
    #[error("the coding cannot be used: {0}")]
    Basis(#[from] BasisError),
    /// There is no entry that may be read.
    #[error("there is nothing to hand over that may be read")]
    Nothing,
    /// A fragment that no text of the parcel has, or one that is not where its text's are.
    #[error("fragment {fragment} of the parcel is not one of the text it is said to be of")]
    NotOfItsText {
        /// Its number.
        fragment: u32,
    },
    /// Tensors that the model does not make of these tokens.
    #[error(
        "fragment {fragment} of the parcel, of `{key}`, is not what the model makes of its tokens"
    )]
    NotComputed {
        /// Its number.
        fragment: u32,
        /// The key of its entry.
        key: String,
    },
    /// The key of an entry is that of another one here.
    #[error("the parcel has an entry `{key}`; under this key something else is stored here")]
    Taken {
        /// The key.
        key: String,
    },
    /// Two entries under one key.
    #[error("the parcel has two entries `{key}`")]
    Twice {
        /// The key.
        key: String,
    },
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl From<Error> for HandOverError {
    fn from(error: Error) -> Self {
        Self::Memory(error.into())
    }
}
