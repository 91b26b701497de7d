//! Who wrote a parcel?
//!
//! ```text
//! kind  0 nobody says, key and signature are zero
//!       1 Ed25519: the public key, and the signature
//!       2 HMAC-SHA256: the key's name, and 32 bytes of code, the rest zero
//! ```
//! What is signed is a text that names the format, and the root.

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::{ParcelError, SEAL_BYTES, SEAL_MARK, checked, seal_part};

/// Stands before the root in what is signed: a signature of anything else is none of a parcel.
const PURPOSE: &[u8] = b"perennial parcel 1\n";

/// Who signs.
pub enum Signer {
    /// With a secret key; whoever knows the public one can tell.
    Ed25519(Box<SigningKey>),
    /// With a secret that writer and reader share.
    Hmac {
        /// Names the secret.
        name: [u8; 32],
        /// The secret.
        secret: Vec<u8>,
    },
}

impl fmt::Debug for Signer {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ed25519(_) => "Ed25519",
            Self::Hmac { .. } => "Hmac",
        })
    }
}

/// Whose parcels are taken.
#[derive(Clone, Default)]
pub struct Trust {
    /// Public keys.
    pub ed25519: Vec<[u8; 32]>,
    /// Names of secrets, and the secrets.
    pub hmac: Vec<([u8; 32], Vec<u8>)>,
    /// Whether those that nobody signed are taken, too.
    pub unsigned: bool,
}

/// Who signed a parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signed {
    /// Nobody.
    No,
    /// The holder of the secret key to this public one.
    Ed25519([u8; 32]),
    /// A holder of the secret of this name.
    Hmac([u8; 32]),
}

fn message(root: &[u8; 32]) -> Vec<u8> {
    [PURPOSE, root].concat()
}

fn code_of(secret: &[u8], root: &[u8; 32]) -> Hmac<Sha256> {
    let mut code = Hmac::<Sha256>::new_from_slice(secret).expect("a code takes any secret");
    code.update(&message(root));
    code
}

/// The seal of a root.
pub(super) fn seal(root: &[u8; 32], signer: Option<&Signer>) -> Vec<u8> {
    let (kind, key, signature) = match signer {
        None => (0, [0; 32], [0; 64]),
        Some(Signer::Ed25519(secret)) => {
            let signature = secret.sign(&message(root)).to_bytes();
            (1, secret.verifying_key().to_bytes(), signature)
        }
        Some(Signer::Hmac { name, secret }) => {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&code_of(secret, root).finalize().into_bytes());
            (2, *name, signature)
        }
    };
    let mut bytes = SEAL_MARK.to_vec();
    bytes.extend(root);
    bytes.push(kind);
    bytes.extend(key);
    bytes.extend(signature);
    seal_part(&mut bytes);
    bytes
}

/// Who signed, if that is somebody who is trusted.
pub(super) fn verify(
    bytes: &[u8; SEAL_BYTES],
    root: &[u8; 32],
    trust: &Trust,
) -> Result<Signed, ParcelError> {
    let damaged = |what| ParcelError::Damaged { what };
    let part = checked(bytes, "its seal is not what was written")?;
    let split = part.strip_prefix(SEAL_MARK).and_then(|part| {
        let (sealed, part) = part.split_first_chunk::<32>()?;
        let ([kind], part) = part.split_first_chunk::<1>()?;
        let (key, signature) = part.split_first_chunk::<32>()?;
        Some((sealed, *kind, *key, signature.first_chunk::<64>()?))
    });
    let (sealed, kind, key, signature) = split.ok_or(damaged("there is no seal"))?;
    if sealed != root {
        return Err(damaged("its seal is that of another parcel"));
    }
    let name = || blake3::Hash::from_bytes(key).to_hex().to_string();
    match kind {
        0 if trust.unsigned => Ok(Signed::No),
        0 => Err(ParcelError::Unsigned),
        1 => {
            if !trust.ed25519.contains(&key) {
                return Err(ParcelError::Untrusted { key: name() });
            }
            let signature = Signature::from_bytes(signature);
            let is_made = VerifyingKey::from_bytes(&key)
                .and_then(|key| key.verify_strict(&message(root), &signature));
            let forged = |_| ParcelError::Forged { key: name() };
            is_made.map(|()| Signed::Ed25519(key)).map_err(forged)
        }
        2 => {
            let secret = trust.hmac.iter().find(|(name, _)| *name == key);
            let (_, secret) = secret.ok_or_else(|| ParcelError::Untrusted { key: name() })?;
            let (code, rest) = signature.split_at(32);
            let is_made = code_of(secret, root).verify_slice(code).is_ok();
            match is_made && rest.iter().all(|byte| *byte == 0) {
                true => Ok(Signed::Hmac(key)),
                false => Err(ParcelError::Forged { key: name() }),
            }
        }
        _ => Err(damaged("a kind of seal that is not known")),
    }
}
