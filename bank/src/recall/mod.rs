//! Where are the keys that texts are found by? In memory, within a budget, and in a folder.
//!
//! A [`KeyStore`] holds the [`TextKeys`] of texts, some tens of bytes a token, each under a
//! [`TextId`] that names the text and all that its keys depend on. What a score is,
//! [`perennial_model::latent`] says.
//!
//! # Invariants
//! - Equal ids, equal keys: what is not here is made again, and scores are the same whatever is here.
//! - No more than the budget is in memory; what was not used for longest leaves first.
//!
//! What it deliberately does not do: it knows no entries and no rights, and ranks nothing.

mod folder;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use perennial_model::latent::{LatentProfile, TextKeys};

use folder::KeyFolder;

/// Names a text, with all that its keys depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TextId([u8; 32]);

impl TextId {
    /// The id with these bytes, which are a digest.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What a store of keys holds and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyStats {
    /// Texts whose keys are in memory.
    pub n_texts: usize,
    /// Bytes of these.
    pub n_bytes: usize,
    /// Most bytes that may be in memory.
    pub budget_bytes: usize,
    /// Keys that were taken in, since the start.
    pub n_taken: u64,
    /// Keys that were read from the folder.
    pub n_read: u64,
    /// Keys that left memory for others.
    pub n_evicted: u64,
    /// Keys that the folder did not take: they are made again after a restart.
    pub n_unwritten: u64,
}

/// Keys by text.
#[derive(Debug)]
pub struct KeyStore {
    profile: LatentProfile,
    head_dim: usize,
    held: HashMap<TextId, Held>,
    /// By when they were used.
    uses: BTreeMap<u64, TextId>,
    /// Counts uses.
    clock: u64,
    folder: Option<KeyFolder>,
    stats: KeyStats,
}

#[derive(Debug)]
struct Held {
    keys: Arc<TextKeys>,
    used: u64,
}

impl KeyStore {
    /// A store for the keys of this profile, of a model whose heads are `head_dim` wide.
    pub fn new(profile: LatentProfile, head_dim: usize, budget_bytes: usize) -> Self {
        Self {
            profile,
            head_dim,
            held: HashMap::new(),
            uses: BTreeMap::new(),
            clock: 0,
            folder: None,
            stats: KeyStats {
                budget_bytes,
                ..KeyStats::default()
            },
        }
    }

    /// The same, with a folder for what is to outlive the process. It is made when the first keys come.
    #[must_use]
    pub fn in_folder(mut self, path: PathBuf) -> Self {
        self.folder = Some(KeyFolder::at(path));
        self
    }

    /// A text's keys, from memory or the folder.
    pub fn get(&mut self, id: &TextId) -> Option<Arc<TextKeys>> {
        if let Some(held) = self.held.get_mut(id) {
            self.clock += 1;
            self.uses.remove(&held.used);
            held.used = self.clock;
            self.uses.insert(self.clock, *id);
            return Some(held.keys.clone());
        }
        let bytes = self.folder.as_ref()?.read(id)?;
        let keys = TextKeys::from_bytes(&bytes, &self.profile, self.head_dim)?;
        let keys = Arc::new(keys);
        self.stats.n_read += 1;
        self.hold(*id, keys.clone());
        Some(keys)
    }

    /// Whether a text's keys are in memory or, as far as a look at its file tells, in the folder.
    pub fn has(&self, id: &TextId) -> bool {
        let is_in_folder = |folder: &KeyFolder| folder.has(id);
        self.held.contains_key(id) || self.folder.as_ref().is_some_and(is_in_folder)
    }

    /// Takes a text's keys.
    pub fn insert(&mut self, id: TextId, keys: Arc<TextKeys>) {
        self.stats.n_taken += 1;
        if let Some(folder) = &self.folder
            && folder.write(&id, &keys.to_bytes()).is_err()
        {
            self.stats.n_unwritten += 1;
        }
        self.hold(id, keys);
    }

    /// Forgets a text, here and in the folder.
    pub fn remove(&mut self, id: &TextId) {
        self.release(id);
        if let Some(folder) = &self.folder {
            folder.remove(id);
        }
    }

    /// Forgets all texts but these, here and in the folder.
    pub fn keep_only(&mut self, ids: &HashSet<TextId>) {
        let gone: Vec<TextId> = self
            .held
            .keys()
            .filter(|id| !ids.contains(*id))
            .copied()
            .collect();
        gone.iter().for_each(|id| self.release(id));
        if let Some(folder) = &self.folder {
            folder.keep_only(ids);
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.keep_only(&HashSet::new());
    }

    /// What it holds and has done.
    pub fn stats(&self) -> KeyStats {
        KeyStats {
            n_texts: self.held.len(),
            ..self.stats
        }
    }

    /// Holds keys in memory, as far as the budget goes.
    fn hold(&mut self, id: TextId, keys: Arc<TextKeys>) {
        self.release(&id);
        let n_bytes = keys.n_bytes();
        if n_bytes > self.stats.budget_bytes {
            return;
        }
        while self.stats.n_bytes + n_bytes > self.stats.budget_bytes {
            let Some(oldest) = self.uses.first_key_value().map(|(_, id)| *id) else {
                break;
            };
            self.release(&oldest);
            self.stats.n_evicted += 1;
        }
        self.clock += 1;
        self.uses.insert(self.clock, id);
        self.stats.n_bytes += n_bytes;
        let used = self.clock;
        self.held.insert(id, Held { keys, used });
    }

    fn release(&mut self, id: &TextId) {
        if let Some(held) = self.held.remove(id) {
            self.uses.remove(&held.used);
            self.stats.n_bytes -= held.keys.n_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use perennial_model::cancel::Cancel;
    use perennial_model::decoder::{Decoder, QueryHead};
    use perennial_model::latent::{KeyBits, Units};
    use perennial_model::layout::Layout;
    use perennial_model::seeded::{tiny, tiny_config};

    use super::*;

    fn profile() -> LatentProfile {
        let heads = [(1, 3), (0, 1)].map(|(layer, head)| QueryHead { layer, head });
        LatentProfile::new(heads.to_vec(), 2, KeyBits::Four, Units::PLAIN)
    }

    /// Keys of texts of one length, so of as many bytes each.
    fn texts() -> Vec<(TextId, Arc<TextKeys>)> {
        let config = tiny_config();
        let decoder = Decoder::load(config.clone(), &tiny(&config, 7), 1, &mut |_, _| {});
        let decoder = decoder.expect("loads");
        let of = |n: u8| {
            let tokens: Vec<u32> = (0..20).map(|t| (t * 7 + u32::from(n)) % 96).collect();
            let (layout, cancel) = (Layout::new(), Cancel::new());
            let strips = decoder.key_strips(&layout, &[&tokens], &profile(), &cancel);
            let keys = TextKeys::of(strips.expect("are read"));
            (TextId::from_bytes([n; 32]), Arc::new(keys))
        };
        (0..4).map(of).collect()
    }

    #[test]
    fn what_was_not_used_for_longest_leaves_first() {
        let texts = texts();
        let each = texts[0].1.n_bytes();
        let mut store = KeyStore::new(profile(), 16, 2 * each);
        for (id, keys) in &texts[..2] {
            store.insert(*id, keys.clone());
        }
        assert!(store.get(&texts[0].0).is_some());
        store.insert(texts[2].0, texts[2].1.clone());
        assert!(store.get(&texts[1].0).is_none());
        assert_eq!(store.get(&texts[0].0), Some(texts[0].1.clone()));
        let stats = store.stats();
        assert_eq!((stats.n_texts, stats.n_bytes), (2, 2 * each));
        assert_eq!((stats.n_taken, stats.n_evicted), (3, 1));
        // What is larger than the budget is not held, and drives nothing out.
        let mut small = KeyStore::new(profile(), 16, each - 1);
        small.insert(texts[0].0, texts[0].1.clone());
        assert_eq!((small.stats().n_texts, small.stats().n_bytes), (0, 0));
    }

    #[test]
    fn a_folder_outlives_the_store_and_what_is_gone_leaves_it() {
        let texts = texts();
        let dir = tempfile::tempdir().expect("a folder");
        let open = || KeyStore::new(profile(), 16, 1 << 20).in_folder(dir.path().join("keys"));
        let mut store = open();
        for (id, keys) in &texts {
            store.insert(*id, keys.clone());
        }
        store.remove(&texts[0].0);
        let mut store = open();
        assert!(!store.has(&texts[0].0));
        assert!(store.get(&texts[0].0).is_none());
        for (id, keys) in &texts[1..] {
            assert!(store.has(id));
            assert_eq!(store.get(id).as_ref(), Some(keys));
        }
        assert_eq!(store.stats().n_read, 3);
        store.keep_only(&HashSet::from([texts[2].0]));
        let mut store = open();
        let left = texts.iter().filter(|(id, _)| store.get(id).is_some());
        assert_eq!(left.count(), 1);
        store.clear();
        assert!(open().get(&texts[2].0).is_none());
    }

    #[test]
    fn a_file_that_was_torn_is_not_there() {
        let texts = texts();
        let dir = tempfile::tempdir().expect("a folder");
        let open = || KeyStore::new(profile(), 16, 1 << 20).in_folder(dir.path().into());
        let (id, keys) = &texts[1];
        open().insert(*id, keys.clone());
        let files = std::fs::read_dir(dir.path()).expect("is there");
        let files: Vec<PathBuf> = files.map(|file| file.expect("is there").path()).collect();
        let [file] = &files[..] else {
            panic!("one file: {files:?}");
        };
        let whole = std::fs::read(file).expect("is read");
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            std::fs::write(file, flipped).expect("is written");
            assert_eq!(open().get(id), None, "byte {at}");
        }
        std::fs::write(file, &whole[..whole.len() - 1]).expect("is written");
        assert_eq!(open().get(id), None);
        // Of another text, by its name alone.
        std::fs::write(file, &whole).expect("is written");
        let other = folder::name(&texts[2].0);
        std::fs::rename(file, dir.path().join(other)).expect("is renamed");
        assert_eq!(open().get(&texts[2].0), None);
    }
}
