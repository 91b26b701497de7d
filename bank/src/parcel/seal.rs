//! Who wrote a parcel?
//!
//! ```text
//! kind  0 nobody says, key and signature are zero
//!       1 Ed25519: the public key, and the signature
//! ```
//! What is signed is a text that names the format, and the root.

use std::fmt;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use super::{ParcelError, SEAL_BYTES, SEAL_MARK, checked, hex, seal_part};

/// Stands before the root in what is signed: a signature of anything else is none of a parcel.
const PURPOSE: &[u8] = b"perennial parcel 1\n";

/// Who signs: the holder of a secret Ed25519 key.
pub struct Signer {
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

/// Bytes that are no secret key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these 32 bytes are no secret Ed25519 key")]
#[non_exhaustive]
pub struct SignerError;

impl Signer {
    /// Who holds this secret key.
    ///
    /// # Errors
    /// [`SignerError`].
    pub fn of(secret: &[u8; 32]) -> Result<Self, SignerError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(secret).map_err(|_| SignerError)?;
        let public = pair.public_key().as_ref().try_into();
        let public = public.map_err(|_| SignerError)?;
        Ok(Self { pair, public })
    }

    /// The public key, by which others know them.
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }
}

impl fmt::Debug for Signer {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signer").field(&hex(&self.public)).finish()
    }
}

/// Whose parcels are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Anybody's, signed or not. A signature that is there must be one of its key all the same.
    Anybody,
    /// Those that are signed with one of these public keys.
    Keys(Vec<[u8; 32]>),
}

fn message(root: &[u8; 32]) -> Vec<u8> {
    [PURPOSE, root].concat()
}

/// The seal of a root.
pub(super) fn seal(root: &[u8; 32], signer: Option<&Signer>) -> Vec<u8> {
    let mut bytes = SEAL_MARK.to_vec();
    bytes.extend(root);
    match signer {
        None => bytes.extend([0; 1 + 32 + 64]),
        Some(signer) => {
            bytes.push(1);
            bytes.extend(signer.public);
            bytes.extend(signer.pair.sign(&message(root)).as_ref());
        }
    }
    seal_part(&mut bytes);
    bytes
}

/// The key with which it is signed, if that is one that is trusted; none where nobody signed and nobody
/// must.
pub(super) fn verify(
    bytes: &[u8; SEAL_BYTES],
    root: &[u8; 32],
    trust: &Trust,
) -> Result<Option<[u8; 32]>, ParcelError> {
    let damaged = |what| ParcelError::Damaged { what };
    let part = checked(bytes, "its seal is not what was written")?;
    let split = part.strip_prefix(SEAL_MARK).and_then(|part| {
        let (sealed, part) = part.split_first_chunk::<32>()?;
        let ([kind], part) = part.split_first_chunk::<1>()?;
        let (key, signature) = part.split_first_chunk::<32>()?;
        Some((sealed, *kind, *key, signature))
    });
    let (sealed, kind, key, signature) = split.ok_or(damaged("there is no seal"))?;
    if sealed != root {
        return Err(damaged("its seal is that of another parcel"));
    }
    match (kind, trust) {
        (0, Trust::Anybody) => match key.iter().chain(signature).all(|byte| *byte == 0) {
            true => Ok(None),
            false => Err(damaged("its seal says nobody signed, and has a signature")),
        },
        (0, Trust::Keys(_)) => Err(ParcelError::Unsigned),
        (1, Trust::Keys(keys)) if !keys.contains(&key) => {
            let key = hex(&key);
            Err(ParcelError::Untrusted { key })
        }
        (1, _) => {
            let public = UnparsedPublicKey::new(&ED25519, &key);
            let is_made = public.verify(&message(root), signature);
            let forged = |_| ParcelError::Forged { key: hex(&key) };
            is_made.map(|()| Some(key)).map_err(forged)
        }
        _ => Err(damaged("a kind of seal that is not known")),
    }
}
