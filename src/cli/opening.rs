//! From options to an opened model.

use perennial::model::locator::{Locator, Settings};
use perennial::{LocalModel, LocalModelOptions, View};

use super::args::{ModelArgs, ViewArgs};
use super::failure::Failure;
use super::inputs::{DOCUMENTS, QUESTIONS};
use super::live::Live;

/// Name of the view that the program keeps.
pub(crate) const VIEW: &str = "answers";

/// Where models are looked for.
///
/// # Errors
/// A setting of the environment that cannot be used.
pub(crate) fn locator(cache: Option<&std::path::Path>) -> Result<Locator, Failure> {
    let mut settings = Settings::from_env()?;
    if let Some(cache) = cache {
        settings.models = cache.join("models");
    }
    Ok(Locator::new(settings))
}

/// Finds and opens the model, with its progress on `live`.
///
/// # Errors
/// Why it cannot be had or opened.
pub(crate) fn open(args: &ModelArgs, live: &Live) -> Result<LocalModel, Failure> {
    open_by(&args.model, args, live)
}

/// The same for a model that something else names.
///
/// # Errors
/// Why it cannot be had or opened.
pub(crate) fn open_by(spec: &str, args: &ModelArgs, live: &Live) -> Result<LocalModel, Failure> {
    let locator = locator(args.cache.as_deref())?;
    let mut options = LocalModelOptions {
        store_bytes: args.memory.0,
        ..LocalModelOptions::default()
    };
    if let Some(n_threads) = args.threads {
        options.n_threads = n_threads;
    }
    let embedder_live = live.clone();
    Ok(LocalModel::open_with(
        spec,
        &options,
        &locator,
        &mut *live.bytes(),
        move || embedder_live.bytes(),
    )?)
}

/// The view that the options declare.
pub(crate) fn view(args: &ViewArgs) -> View {
    let mut view = View::named(VIEW)
        .context(QUESTIONS)
        .data_source(DOCUMENTS)
        .scope(args.scope)
        .policy(args.policy)
        .deliver(args.deliver)
        .superseded(args.superseded)
        .answer_without_documents(args.answer_without_documents)
        .token_budget(args.budget)
        .max_tokens(args.max_tokens);
    if let Some(lag) = args.target_lag {
        view = view.target_lag(lag);
    }
    if let Some(order) = args.order {
        view = view.order_by(order);
    }
    match &args.prompt {
        Some(prompt) => view.prompt(prompt),
        None => view,
    }
}
