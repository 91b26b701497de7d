//! Which profile has a decoder?
//!
//! That of a folder, if it was calibrated on this machine; else the one that the program brings; else the
//! default. What stands there and cannot be used is an error: a guess by other coefficients than the ones
//! that somebody fitted would be told by nothing.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use perennial_model::digest::ModelDigest;

use super::Profile;
use super::profile::MAX_BYTES;

/// The profile of decoders without one of their own.
const DEFAULT: &str = include_str!("profiles/default.json");
/// Those that the program brings, of models known by name.
const BROUGHT: [&str; 2] = [
    include_str!("profiles/smollm2-135m.json"),
    include_str!("profiles/qwen2.5-coder-0.5b.json"),
];

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The file cannot be read.
    #[error("{}: the profile cannot be read: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("{}: the profile cannot be written: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{}: no profile: {reason}; `perennial calibrate` writes one, and without the file the model takes \
         the one that the program has", path.display()
    )]
    NotAProfile {
        /// Which.
        path: PathBuf,
        /// Where it goes wrong.
        reason: String,
    },
    /// The profile is of another decoder.
    #[error(
        "{}: the profile is of {of}, and the model that is opened is {opened}: coefficients of one decoder \
         are none of another; `perennial calibrate` fits its own", path.display()
    )]
    OtherDecoder {
        /// Which.
        path: PathBuf,
        /// Whose it is, by name and digest.
        of: String,
        /// Which was opened, by its digest.
        opened: ModelDigest,
    },
}

impl Profile {
    /// Reads a profile, which is to be that of a decoder.
    ///
    /// # Errors
    /// A file that cannot be read, that is no profile, or that is one of another decoder.
    pub fn read(path: &Path, decoder: &ModelDigest) -> Result<Self, ProfileError> {
        Self::read_from(path, decoder)?.ok_or_else(|| ProfileError::Read {
            path: path.into(),
            source: io::ErrorKind::NotFound.into(),
        })
    }

    /// The same; nothing where there is no file.
    fn read_from(path: &Path, decoder: &ModelDigest) -> Result<Option<Self>, ProfileError> {
        let failed = |source| ProfileError::Read {
            path: path.into(),
            source,
        };
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        // One byte more, so that what is too long is found to be.
        let mut file = file.take(MAX_BYTES as u64 + 1);
        file.read_to_end(&mut bytes).map_err(failed)?;
        let parsed = match String::from_utf8(bytes) {
            Ok(text) => Self::parse(&text),
            Err(_) => Err("it is no text in UTF-8".to_owned()),
        };
        let profile = parsed.map_err(|reason| ProfileError::NotAProfile {
            path: path.into(),
            reason,
        })?;
        match profile.decoder() {
            Some(of) if of.digest == *decoder => Ok(Some(profile)),
            of => Err(ProfileError::OtherDecoder {
                path: path.into(),
                of: match of {
                    Some(of) => format!("{} ({})", of.name, of.digest),
                    None => "no decoder".into(),
                },
                opened: *decoder,
            }),
        }
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn write(&self, path: &Path) -> Result<(), ProfileError> {
        let written = || {
            let mut name = path.file_name().unwrap_or_default().to_owned();
            name.push(format!(".{}.part", std::process::id()));
            let part = path.with_file_name(name);
            let mut file = fs::File::create(&part)?;
            let renamed = file
                .write_all(self.text().as_bytes())
                .and_then(|()| file.sync_all())
                .and_then(|()| fs::rename(&part, path));
            if renamed.is_err() {
                // The reason is told; that a part is left behind as well matters less.
                let _ = fs::remove_file(&part);
            }
            renamed
        };
        written().map_err(|source| ProfileError::Write {
            path: path.into(),
            source,
        })
    }

    /// The profile that the program brings for a decoder, if it knows it.
    ///
    /// # Panics
    /// If a file of the program's own is no profile, which a test looks at.
    pub fn brought(decoder: &ModelDigest) -> Option<Self> {
        let mut brought = BROUGHT
            .into_iter()
            .map(|text| Self::parse(text).expect("what the program brings is a profile"));
        brought.find(|profile| profile.decoder().is_some_and(|of| of.digest == *decoder))
    }
}

impl Default for Profile {
    /// The profile of decoders without one of their own.
    ///
    /// # Panics
    /// If the program's own file is no profile, which a test looks at.
    fn default() -> Self {
        Self::parse(DEFAULT).expect("the default profile is one")
    }
}

/// A folder of profiles that were calibrated on this machine, one file a decoder.
#[derive(Clone, Debug)]
pub struct Profiles {
    folder: PathBuf,
}

impl Profiles {
    /// Those of a folder, which need not be there.
    pub fn within(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// Where that of a decoder stands.
    pub fn place_of(&self, decoder: &ModelDigest) -> PathBuf {
        self.folder.join(format!("{decoder}.json"))
    }

    /// By what the answers of a decoder are judged: its own profile, here or among those that the program
    /// brings, else the default.
    ///
    /// # Errors
    /// A file that stands in its place and cannot be used.
    pub fn of(&self, decoder: &ModelDigest) -> Result<Profile, ProfileError> {
        let own = Profile::read_from(&self.place_of(decoder), decoder)?;
        let own = own.or_else(|| Profile::brought(decoder));
        Ok(own.unwrap_or_else(Profile::default))
    }

    /// Has the decoder of a profile be judged by it from now on. Where it stands.
    ///
    /// # Errors
    /// What the system refuses; the default, which is no decoder's.
    pub fn keep(&self, profile: &Profile) -> Result<PathBuf, ProfileError> {
        let Some(of) = profile.decoder() else {
            return Err(ProfileError::NotAProfile {
                path: self.folder.clone(),
                reason: "it names no decoder".into(),
            });
        };
        let path = self.place_of(&of.digest);
        fs::create_dir_all(&self.folder).map_err(|source| ProfileError::Write {
            path: path.clone(),
            source,
        })?;
        profile.write(&path)?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use perennial_model::locator::{KNOWN, Kind};

    use super::super::profile::tests::{COEFFICIENTS, profile};
    use super::*;

    const DECODER: ModelDigest = ModelDigest::from_bytes([7; 32]);

    #[test]
    fn what_the_program_brings_are_profiles_of_decoders_known_by_name() {
        assert!(Profile::default().is_default());
        // The largest has not been measured: it takes the default.
        let is_measured = |name: &str| name != "qwen2.5-coder-1.5b";
        let decoders = KNOWN.iter().filter(|model| model.kind == Kind::Decoder);
        for model in decoders.filter(|model| is_measured(model.name)) {
            let digest = model.files[0].sha256.parse().expect("a digest");
            let brought = Profile::brought(&digest).expect(model.name);
            assert_eq!(brought.decoder().map(|of| &*of.name), Some(model.name));
        }
        assert_eq!(Profile::brought(&DECODER), None);
    }

    #[test]
    fn a_decoder_has_its_own_profile_and_one_without_takes_the_default() {
        let dir = tempfile::tempdir().expect("a folder");
        let profiles = Profiles::within(dir.path().join("profiles"));
        let of = |decoder: &ModelDigest| profiles.of(decoder).expect("sound");
        assert!(of(&DECODER).is_default());
        let own = profile([7; 32], COEFFICIENTS);
        let place = profiles.keep(&own).expect("writes");
        assert_eq!(place, profiles.place_of(&DECODER));
        assert!(profiles.keep(&Profile::default()).is_err());
        assert_eq!(of(&DECODER), own);
        assert!(of(&ModelDigest::from_bytes([8; 32])).is_default());
        // It goes before the one that the program brings.
        let known = KNOWN[0].files[0].sha256.parse().expect("a digest");
        let brought = of(&known);
        let calibrated = profile(*known.as_bytes(), COEFFICIENTS);
        profiles.keep(&calibrated).expect("writes");
        assert_ne!(of(&known), brought);
        assert_eq!(of(&known), calibrated);
        // Nothing else is left in the folder.
        let n_files = fs::read_dir(dir.path().join("profiles")).expect("a folder");
        assert_eq!(n_files.count(), 2);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("a folder");
        let profiles = Profiles::within(dir.path());
        let place = profiles.place_of(&DECODER);
        let refused = |bytes: &[u8]| {
            fs::write(&place, bytes).expect("writable");
            let error = profiles.of(&DECODER).expect_err("refused").to_string();
            assert!(error.contains(&place.display().to_string()), "{error}");
            error
        };
        assert!(refused(b"{\"version\": 9}").contains("of version 9"));
        assert!(refused(b"\xff\xfe").contains("UTF-8"));
        assert!(refused(&vec![b' '; MAX_BYTES + 10]).contains("more than"));
        let other = profile([9; 32], COEFFICIENTS);
        let error = refused(other.text().as_bytes());
        assert!(
            error.contains(&format!("is of tiny ({})", "09".repeat(32))),
            "{error}"
        );
        assert!(error.contains(&DECODER.to_string()), "{error}");
        assert!(refused(DEFAULT.as_bytes()).contains("is of no decoder"));
        fs::remove_file(&place).expect("there");
        fs::create_dir(&place).expect("writable");
        let error = profiles.of(&DECODER).expect_err("a folder");
        assert!(matches!(error, ProfileError::Read { .. }), "{error}");
        let error = Profile::read(&dir.path().join("none.json"), &DECODER);
        assert!(matches!(error, Err(ProfileError::Read { .. })), "{error:?}");
    }
}
