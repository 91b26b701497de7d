//! Names of immutable things: 256-bit hashes of everything a thing depends on.
//!
//! Equal ids mean equal bits. A [`FragmentId`] hashes the model (weights, kernel class, KV
//! dtype), the id of what the fragment attended to, and its own tokens, so that reuse of a
//! fragment is exact wherever the id is the same, in every scope.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! digest_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The id with these bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes of the id.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}(", stringify!($name))?;
                for byte in &self.0[..6] {
                    write!(f, "{byte:02x}")?;
                }
                write!(f, ")")
            }
        }
    };
}

digest_newtype! {
    /// Names what computes: weights, kernel class and KV dtype together.
    ModelIdentity
}
digest_newtype! {
    /// Names a passage's title and text.
    PassageId
}
digest_newtype! {
    /// Names the KV state of a run of tokens after one exact conditioning.
    FragmentId
}

impl ModelIdentity {
    /// Identity of a model from the digest of its weights and the names of the kernel
    /// class (whose members agree in every bit) and of the KV element type.
    pub fn new(weights: &[u8; 32], kernel_class: &str, kv_dtype: &str) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("perennial 1 model identity");
        hash.update(weights);
        for part in [kernel_class, kv_dtype] {
            hash.update(&(part.len() as u64).to_le_bytes())
                .update(part.as_bytes());
        }
        Self(*hash.finalize().as_bytes())
    }
}

impl PassageId {
    /// Id of a passage's contents.
    pub fn of(title: &str, text: &str) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("perennial 1 passage");
        hash.update(&(title.len() as u64).to_le_bytes())
            .update(title.as_bytes());
        hash.update(text.as_bytes());
        Self(*hash.finalize().as_bytes())
    }
}

impl FragmentId {
    /// Id of `tokens` encoded after everything that `conditioning` names; `None` for a
    /// fragment that attended to itself only.
    pub fn of(model: &ModelIdentity, conditioning: Option<&FragmentId>, tokens: &[u32]) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("perennial 1 fragment");
        hash.update(&model.0);
        match conditioning {
            None => hash.update(&[0]),
            Some(id) => hash.update(&[1]).update(&id.0),
        };
        for token in tokens {
            hash.update(&token.to_le_bytes());
        }
        Self(*hash.finalize().as_bytes())
    }

    /// Id of `tokens` encoded behind these fragments, which are not a chain of their own.
    pub fn spliced(model: &ModelIdentity, before: &[FragmentId], tokens: &[u32]) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("perennial 1 spliced conditioning");
        for id in before {
            hash.update(&id.0);
        }
        let conditioning = Self(*hash.finalize().as_bytes());
        Self::of(model, Some(&conditioning), tokens)
    }

    /// Names a passage that stands in a layout by two fragments: its first tokens are those of
    /// `boundary`, and the others of `alone`, which has all. No fragment has this id: it is what others
    /// are encoded after.
    pub fn joined(boundary: &FragmentId, alone: &FragmentId) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("perennial 1 joined fragments");
        hash.update(&boundary.0).update(&alone.0);
        Self(*hash.finalize().as_bytes())
    }

    /// Id of tensors that stand in for the fragment of an id, and are not known to be it: they came from
    /// another process. `content` is the digest of their bits.
    pub fn stand_in(id: &FragmentId, content: &[u8; 32]) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("perennial 1 stand-in for a fragment");
        hash.update(&id.0).update(content);
        Self(*hash.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_id_depends_on_each_of_its_inputs() {
        let model = ModelIdentity::new(&[1; 32], "f32", "f16");
        let other_model = ModelIdentity::new(&[1; 32], "f32", "bf16");
        let root = FragmentId::of(&model, None, &[1, 2]);
        let ids = [
            root,
            FragmentId::of(&other_model, None, &[1, 2]),
            FragmentId::of(&model, None, &[2, 1]),
            FragmentId::of(&model, Some(&root), &[1, 2]),
            FragmentId::joined(&root, &root),
            FragmentId::spliced(&model, &[root, root], &[]),
            FragmentId::stand_in(&root, &[1; 32]),
            FragmentId::stand_in(&root, &[2; 32]),
        ];
        for (i, a) in ids.iter().enumerate() {
            for b in &ids[i + 1..] {
                assert_ne!(a, b);
            }
        }
    }
}
