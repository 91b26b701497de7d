//! Which fragments wait in a state folder for the texts they are of?
//!
//! Each text has a file for each model, `TEXT-MODEL.audited` or `TEXT-MODEL.stand-in`, in the folder
//! `handed_over`: a parcel without entries, so that it is checked as one when it is read. Only the user may
//! read it. What is received waits in `handed_over/incoming` until all of its parcel is believed. All of it
//! is a cache: what is lost or damaged is encoded again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Cursor, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use perennial_bank::parcel::{
    Expected, Label, ModelParts, ParcelError, ParcelReader, ParcelWriter, Trust,
};
use perennial_bank::{FragmentId, HandedOver, PassageId};
use perennial_model::kv::KvFragment;

use super::error::HandOverError;
use super::hex;
use super::import::KeptFragments;

/// The folder within a state folder.
const FOLDER: &str = "handed_over";
/// What is received, before it is believed.
const INCOMING: &str = "incoming";
/// How files end whose fragments were audited.
const AUDITED: &str = "audited";
/// How files end whose fragments were not.
const STAND_IN: &str = "stand-in";
/// Hexadecimal digits of a model's identity in a file's name.
const MODEL_DIGITS: usize = 16;

/// The fragments that were handed over to a state folder.
#[derive(Clone, Debug)]
pub struct KeptFolder {
    dir: PathBuf,
}

/// What was put into a model's store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Fragments that are what they say.
    pub n_audited: usize,
    /// Fragments that stand in for what they say they are.
    pub n_stand_ins: usize,
    /// What could not be read, and why: it is encoded again.
    pub troubles: Vec<String>,
}

impl KeptFolder {
    /// That of a state folder, which need not have one.
    pub fn of_state(state: &Path) -> Self {
        Self {
            dir: state.join(FOLDER),
        }
    }

    /// Whether anything was ever handed over to it.
    pub fn is_there(&self) -> bool {
        self.dir.is_dir()
    }

    /// Puts what is kept for these texts under this model into its store.
    pub fn hold(
        &self,
        texts: impl IntoIterator<Item = PassageId>,
        model: &ModelParts,
        into: &HandedOver,
    ) -> Held {
        let mut held = Held::default();
        for text in texts {
            for (kind, is_audited) in [(AUDITED, true), (STAND_IN, false)] {
                let path = self.dir.join(file_name(text, model, kind));
                let read = match read(&path, model) {
                    Ok(Some(read)) => read,
                    Ok(None) => continue,
                    Err(error) => {
                        let shown = path.display();
                        held.troubles
                            .push(format!("{shown}: {error}; it is read again"));
                        continue;
                    }
                };
                for (id, kv) in read {
                    let cost_tokens = kv.n_tokens();
                    match is_audited {
                        true => {
                            held.n_audited += 1;
                            into.hold_audited(id, kv, cost_tokens);
                        }
                        false => {
                            held.n_stand_ins += 1;
                            into.hold_stand_in(id, kv, cost_tokens);
                        }
                    }
                }
            }
        }
        held
    }

    /// Keeps what came of one text until [`KeptFolder::settle`].
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn keep(&self, kept: &KeptFragments<'_>) -> Result<(), HandOverError> {
        let incoming = self.incoming();
        make_folder(&incoming).map_err(at(&incoming))?;
        let kind = if kept.is_audited { AUDITED } else { STAND_IN };
        let name = file_name(kept.of, kept.model, kind);
        // What came of it before stays: by another parcel, or until a transfer broke off.
        let mut known = BTreeMap::new();
        for dir in [&self.dir, &incoming] {
            known.extend(
                read(&dir.join(&name), kept.model)
                    .ok()
                    .flatten()
                    .unwrap_or_default(),
            );
        }
        let label = Label {
            model: Some(kept.model.clone()),
            written_at_ms: 0,
            expires_at_ms: None,
            writer: String::new(),
            is_coded: false,
        };
        let mut parcel = ParcelWriter::new(label, Cursor::new(Vec::new()))?;
        let mut before = parcel.named(None, None, &kept.plan.prefix.tokens)?;
        for (piece, came) in kept.plan.pieces().zip(&kept.fragments) {
            let kv = came.as_ref().or_else(|| known.get(&piece.id));
            before = match kv {
                Some(kv) => parcel.whole(Some(before), None, &piece.tokens, kv)?,
                None => parcel.named(Some(before), None, &piece.tokens)?,
            };
        }
        let path = incoming.join(name);
        let mut bytes = Vec::new();
        parcel.finish(&mut bytes, None)?;
        write(&path, &bytes).map_err(at(&path))
    }

    /// What came is believed.
    ///
    /// # Errors
    /// A file that cannot be moved.
    pub fn settle(&self) -> Result<(), HandOverError> {
        let incoming = self.incoming();
        for path in files(&incoming).map_err(at(&incoming))? {
            if let Some(name) = path.file_name() {
                fs::rename(&path, self.dir.join(name)).map_err(at(&path))?;
            }
        }
        Ok(())
    }

    /// Takes away what came and was not believed, and what is kept for other texts than these. Returns how
    /// many files went.
    ///
    /// # Errors
    /// A file that cannot be taken away.
    pub fn sweep(&self, texts: &BTreeSet<PassageId>) -> Result<usize, HandOverError> {
        let mut n_gone = 0;
        let incoming = self.incoming();
        for path in files(&incoming).map_err(at(&incoming))? {
            fs::remove_file(&path).map_err(at(&path))?;
            n_gone += 1;
        }
        let live: BTreeSet<String> = texts.iter().map(|text| hex(text.as_bytes())).collect();
        for path in files(&self.dir).map_err(at(&self.dir))? {
            let name = path.file_name().and_then(|name| name.to_str());
            let text = name.and_then(|name| name.split('-').next());
            if !text.is_some_and(|text| live.contains(text)) {
                fs::remove_file(&path).map_err(at(&path))?;
                n_gone += 1;
            }
        }
        Ok(n_gone)
    }

    /// The ids of the fragments that are kept for these texts, and of those that came and wait to be
    /// believed: who asks for more need not be sent them.
    pub fn ids(
        &self,
        texts: impl IntoIterator<Item = PassageId>,
        model: &ModelParts,
    ) -> BTreeSet<FragmentId> {
        let kinds =
            |text| [AUDITED, STAND_IN].map(|kind| self.dir.join(file_name(text, model, kind)));
        let kept = texts.into_iter().flat_map(kinds);
        let waiting = files(&self.incoming()).unwrap_or_default();
        // What is of another model, or cannot be read, is not had.
        let read = kept
            .chain(waiting)
            .filter_map(|path| read(&path, model).ok().flatten());
        read.flat_map(BTreeMap::into_keys).collect()
    }

    fn incoming(&self) -> PathBuf {
        self.dir.join(INCOMING)
    }
}

fn file_name(text: PassageId, model: &ModelParts, kind: &str) -> String {
    let model = hex(model.identity.as_bytes());
    format!("{}-{}.{kind}", hex(text.as_bytes()), &model[..MODEL_DIGITS])
}

/// The fragments of a file, if it is there.
fn read(
    path: &Path,
    model: &ModelParts,
) -> Result<Option<BTreeMap<FragmentId, Arc<KvFragment>>>, ParcelError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let expected = Expected {
        model: Some(model),
        trust: &Trust::Anybody,
        now_ms: 0,
        is_known: &|_| false,
        max_bytes: u64::MAX,
        n_bytes: Some(file.metadata()?.len()),
    };
    let mut parcel = ParcelReader::open(BufReader::new(file), expected)?;
    let mut read = BTreeMap::new();
    while let Some(received) = parcel.next_fragment()? {
        // They are kept as they are.
        if let Some(kv) = received.whole() {
            read.insert(received.id, kv.clone());
        }
    }
    Ok(Some(read))
}

/// The files of a folder, which need not be there.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let listed = match fs::read_dir(dir) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let paths = listed.map(|entry| entry.map(|entry| entry.path()));
    let paths: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    Ok(paths.into_iter().filter(|path| path.is_file()).collect())
}

fn make_folder(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Writes a file that only the user may read: tensors are as good as the texts.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(bytes)
}

/// Says where it went wrong; made for `map_err`.
fn at(path: &Path) -> impl FnOnce(io::Error) -> HandOverError {
    let path = path.to_owned();
    move |source| HandOverError::Io { path, source }
}
