//! Why is a parcel refused?

use std::io;

use perennial_model::kv::coding::CodingError;

use crate::id::FragmentId;

/// Why a parcel is refused, or cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParcelError {
    /// What it is read from, or written to, failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It ends before it is whole.
    #[error("the parcel is cut off {place}")]
    Cut {
        /// In which part.
        place: &'static str,
    },
    /// It has fewer bytes than its manifest says, before anything of them was read.
    #[error("the parcel is cut off after {n_bytes} of {of} bytes")]
    Short {
        /// How many there are.
        n_bytes: u64,
        /// How many there were.
        of: u64,
    },
    /// A part is not what was written.
    #[error("the parcel is damaged: {what}")]
    Damaged {
        /// Which, and how.
        what: &'static str,
    },
    /// A parcel of another version of the program.
    #[error("the parcel has format version {found}; this program knows {supported}")]
    OtherVersion {
        /// Its version.
        found: u32,
        /// The version that is written here.
        supported: u32,
    },
    /// It was computed by another model than the one here.
    #[error("the parcel has another {what}: {got}, here it is {expected}")]
    OtherModel {
        /// Which part of the model's identity.
        what: &'static str,
        /// The parcel's.
        got: String,
        /// The one here.
        expected: String,
    },
    /// It claims sizes that are past a limit, or that its tokens do not have.
    #[error("the parcel claims {claimed} {what}; the limit is {limit}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many.
        claimed: u64,
        /// How many there may be.
        limit: u64,
    },
    /// It is no longer to be used.
    #[error("the parcel expired {late_ms} ms ago")]
    Expired {
        /// Since when, in milliseconds.
        late_ms: i64,
    },
    /// It was received before.
    #[error("the parcel {root} was received before")]
    Replayed {
        /// What names it, in hexadecimal digits.
        root: String,
    },
    /// Nobody signed it, and somebody must.
    #[error("the parcel is not signed, and only signed ones are taken")]
    Unsigned,
    /// A key that is not trusted.
    #[error("the parcel is signed with key {key}, which is not trusted")]
    Untrusted {
        /// In hexadecimal digits.
        key: String,
    },
    /// A signature that its key did not make.
    #[error("the parcel's signature is not one of its key {key}")]
    Forged {
        /// In hexadecimal digits.
        key: String,
    },
    /// An id that does not follow from model, conditioning and tokens.
    #[error(
        "fragment {fragment} of the parcel says it is {claimed:?}; its tokens make it {computed:?}"
    )]
    WrongId {
        /// Its number.
        fragment: u32,
        /// What it says.
        claimed: FragmentId,
        /// What it is.
        computed: FragmentId,
    },
    /// A number that is infinite or none, or one where no token is.
    #[error(
        "fragment {fragment} of the parcel holds a number that is not finite, or one behind its tokens"
    )]
    NotFinite {
        /// Its number.
        fragment: u32,
    },
    /// Codes that stand for no fragment of the model.
    #[error("fragment {fragment} of the parcel: {source}")]
    Coded {
        /// Its number.
        fragment: u32,
        /// Why not.
        source: CodingError,
    },
    /// What is to be written cannot be.
    #[error("fragment {fragment} cannot be packed: {why}")]
    Unfit {
        /// Its number.
        fragment: usize,
        /// Why.
        why: &'static str,
    },
}
