//! Which models does an engine ask, and what has each of its own?
//!
//! One is asked where none is named; others are added by name, while views run. Two names of the
//! same model are one model here: what one was asked is known to the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, Weak};

use perennial_ask::{AnswerModel, Currency, Executor, Prices, Provider};
use perennial_bank::cold_tier::ColdTierError;
use perennial_bank::{FragmentId, FragmentStore, References};
use perennial_views::query::Query;
use perennial_views::{Asking, Embeddings, Memo, Observer, Outputs, PassageShelf};

use super::error::Error;
use super::runtime::Runtime;

/// A model, and what is shared by all who ask it.
pub(crate) struct EngineModel {
    pub(crate) model: Arc<dyn AnswerModel>,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) store: Option<Arc<FragmentStore>>,
    /// What this engine's layouts refer to in the store.
    pub(crate) references: Option<Arc<References>>,
    /// Runs its calls.
    pub(crate) executor: Arc<Executor>,
    /// What it said of rows.
    pub(crate) outputs: Arc<Outputs>,
    /// Passages, with their tokens.
    pub(crate) shelf: Arc<PassageShelf>,
}

impl EngineModel {
    fn of(runtime: &Runtime, references: Option<Arc<References>>, memo: Arc<dyn Memo>) -> Self {
        let (provider, executor) = (runtime.provider.clone(), runtime.model_executor.clone());
        let outputs = Outputs::new(provider.clone(), memo, executor.clone());
        Self {
            model: runtime.model.clone(),
            provider,
            store: runtime.store.clone(),
            references,
            executor,
            outputs: Arc::new(outputs),
            shelf: Arc::new(PassageShelf::default()),
        }
    }
}

/// The models of an engine.
pub(crate) struct Models {
    default: Arc<EngineModel>,
    named: RwLock<BTreeMap<Arc<str>, Arc<EngineModel>>>,
    /// Stores of models whose name was taken away: who gave them may hold them, with fragments.
    left: Mutex<Vec<Weak<FragmentStore>>>,
    memo: Arc<dyn Memo>,
    /// In which currency this engine counts, once a model of it has had prices: what was spent stays
    /// counted when the model goes.
    currency: OnceLock<Currency>,
    /// The vectors of texts: there is one embedder an engine.
    embeddings: Arc<Embeddings>,
}

impl Models {
    /// The model that is asked where none is named. `references` are those of this engine to its
    /// store.
    pub(crate) fn new(
        runtime: &Runtime,
        references: Option<Arc<References>>,
        memo: Arc<dyn Memo>,
        embeddings: Arc<Embeddings>,
    ) -> Self {
        let currency = runtime.provider.prices().map(|prices| prices.currency());
        Self {
            default: Arc::new(EngineModel::of(runtime, references, memo.clone())),
            named: RwLock::default(),
            left: Mutex::default(),
            memo,
            currency: currency.map_or_else(OnceLock::new, OnceLock::from),
            embeddings,
        }
    }

    fn named(&self) -> RwLockReadGuard<'_, BTreeMap<Arc<str>, Arc<EngineModel>>> {
        self.named.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a model, that of a runtime, by name.
    ///
    /// # Errors
    /// [`Error::DeclaredTwice`]; [`Error::Prices`] for prices in another currency than those of the other
    /// models, or other prices than the same model has under another name; [`Error::OtherProfile`];
    /// [`Error::OtherWarm`].
    pub(crate) fn add(&self, name: &str, runtime: &Runtime) -> Result<(), Error> {
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        if named.contains_key(name) {
            let name = name.to_owned();
            return Err(Error::DeclaredTwice { name });
        }
        let digest = runtime.model.digest();
        let mut known = std::iter::once(&self.default).chain(named.values());
        let same = known.find(|of| of.model.digest() == digest).cloned();
        self.check_prices(name, runtime.provider.prices(), same.as_deref())?;
        let profile = runtime.model.judges_by();
        if same
            .as_ref()
            .is_some_and(|same| same.model.judges_by() != profile)
        {
            let name = name.to_owned();
            return Err(Error::OtherProfile { name });
        }
        let coding = |store: &Option<Arc<FragmentStore>>| store.as_ref()?.coding();
        if same
            .as_ref()
            .is_some_and(|same| coding(&same.store) != coding(&runtime.store))
        {
            let name = name.to_owned();
            return Err(Error::OtherWarm { name });
        }
        let of = same.unwrap_or_else(|| {
            let references = runtime.store.clone().map(References::to).map(Arc::new);
            Arc::new(EngineModel::of(runtime, references, self.memo.clone()))
        });
        named.insert(name.into(), of);
        Ok(())
    }

    /// Takes note of the prices of a model that is added; `same` is that model under another name.
    fn check_prices(
        &self,
        name: &str,
        prices: Option<Prices>,
        same: Option<&EngineModel>,
    ) -> Result<(), Error> {
        let refused = |reason: String| Error::Prices {
            name: name.to_owned(),
            reason,
        };
        if same.is_some_and(|same| same.provider.prices() != prices) {
            let reason = "the same model has other prices under another name".to_owned();
            return Err(refused(reason));
        }
        let Some(currency) = prices.map(|prices| prices.currency()) else {
            return Ok(());
        };
        let counted_in = *self.currency.get_or_init(|| currency);
        match counted_in == currency {
            true => Ok(()),
            false => Err(refused(format!(
                "they are in {currency}, and this engine counts in {counted_in}"
            ))),
        }
    }

    /// Whether any model that a query asks has prices.
    ///
    /// # Errors
    /// [`Error::UnknownModel`].
    pub(crate) fn any_is_priced(&self, query: &Query) -> Result<bool, Error> {
        let mut asked = query.asked().into_iter();
        asked.try_fold(false, |is_priced, name| {
            let of = self.get(name.as_deref())?;
            Ok(is_priced || of.provider.prices().is_some())
        })
    }

    /// Takes a name away.
    pub(crate) fn remove(&self, name: &str) {
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        let removed = named.remove(name);
        if let Some(store) = removed.and_then(|of| of.store.as_ref().map(Arc::downgrade)) {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            left.retain(|store| store.strong_count() > 0);
            left.push(store);
        }
    }

    /// The model of a name; without one, that which is asked where none is named.
    ///
    /// # Errors
    /// [`Error::UnknownModel`].
    pub(crate) fn get(&self, name: Option<&str>) -> Result<Arc<EngineModel>, Error> {
        let Some(name) = name else {
            return Ok(self.default.clone());
        };
        let named = self.named();
        named.get(name).cloned().ok_or_else(|| Error::UnknownModel {
            name: name.to_owned(),
            declared: named
                .keys()
                .map(|name| &**name)
                .collect::<Vec<_>>()
                .join(", "),
        })
    }

    /// The names that there are.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.named().keys().cloned().collect()
    }

    /// Whom a query asks, under the name of its view; `observer` hears of its calls.
    ///
    /// # Errors
    /// [`Error::UnknownModel`].
    pub(crate) fn asking(
        &self,
        view: Arc<str>,
        query: &Query,
        observer: Arc<dyn Observer>,
    ) -> Result<Asking, Error> {
        let names = query.asked().into_iter().flatten();
        let named = names.map(|name| {
            let outputs = self.get(Some(&name))?.outputs.clone();
            Ok((name, outputs))
        });
        let named = named.collect::<Result<_, Error>>()?;
        let asking = Asking::new(view, self.default.outputs.clone(), observer).naming(named);
        Ok(asking.embedding_with(self.embeddings.clone()))
    }

    /// The stores of fragments, each once.
    fn stores(&self) -> Vec<Arc<FragmentStore>> {
        let named = self.named();
        let all = std::iter::once(&self.default).chain(named.values());
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let left = left.iter().filter_map(Weak::upgrade);
        let mut stores: Vec<Arc<FragmentStore>> = Vec::new();
        for store in all.filter_map(|of| of.store.clone()).chain(left) {
            if !stores.iter().any(|known| Arc::ptr_eq(known, &store)) {
                stores.push(store);
            }
        }
        stores
    }

    /// The fragments that are held.
    pub(crate) fn fragments(&self) -> BTreeSet<FragmentId> {
        self.stores().iter().flat_map(|store| store.ids()).collect()
    }

    /// The fragments that are held though no layout refers to them.
    pub(crate) fn unreferenced(&self) -> BTreeSet<FragmentId> {
        let stores = self.stores();
        stores
            .iter()
            .flat_map(|store| store.unreferenced())
            .collect()
    }

    /// Lets go of fragments that no layout refers to.
    pub(crate) fn sweep(&self) {
        self.stores().iter().for_each(|store| store.sweep());
    }

    /// The same at once, on disk too.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn purge(&self) -> Result<(), ColdTierError> {
        self.stores().iter().try_for_each(|store| store.purge())
    }
}
