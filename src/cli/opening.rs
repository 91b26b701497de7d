//! From options to an opened model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use perennial::ask::Coding;
use perennial::ask::{LatentReader, is_address};
use perennial::local_model::{ProfileFrom, embedding_only};
use perennial::model::arithmetic::Arithmetic;
use perennial::model::locator::{Locator, ModelSpec, Settings};
use perennial::sql::{CreateModel, Diagnostic, ModelOption, Script, Spanned, Statement};
use perennial::{LocalModel, LocalModelOptions, Runtime, View};

use super::args::{EmbedderArgs, ModelArgs, ViewArgs};
use super::failure::Failure;
use super::inputs::{DOCUMENTS, QUESTIONS};
use super::live::Live;
use super::remote;

/// Name of the view that the program keeps.
pub(crate) const VIEW: &str = "answers";

/// Where models are looked for.
///
/// # Errors
/// A setting of the environment that cannot be used.
pub(crate) fn locator(cache: Option<&Path>) -> Result<Locator, Failure> {
    let mut settings = Settings::from_env()?;
    if let Some(cache) = cache {
        settings.models = cache.join("models");
    }
    Ok(Locator::new(settings))
}

/// A model that was opened.
pub(crate) struct OpenedModel {
    /// What it is called.
    pub(crate) name: String,
    /// What an engine computes with.
    pub(crate) runtime: Runtime,
}

/// What opens the model of `--model`, as a statement would have it.
pub(crate) fn opened_by(args: &ModelArgs) -> String {
    let of = args.arithmetic.filter(|of| *of != Arithmetic::default());
    let arithmetic = of.map(|of| format!("ARITHMETIC = '{of}'"));
    let quoted = |path: &PathBuf| path.display().to_string().replace('\'', "''");
    let profile = args.profile.as_ref().map(quoted);
    let profile = profile.map(|path| format!("PROFILE = '{path}'"));
    let warm = args.warm.map(|coding| format!("WARM = '{coding}'"));
    let options: Vec<String> = arithmetic.into_iter().chain(profile).chain(warm).collect();
    match options.is_empty() {
        true => args.spec().to_owned(),
        false => format!("{} WITH ({})", args.spec(), options.join(", ")),
    }
}

/// Finds and opens the model that the options name, with its progress on `live`.
///
/// # Errors
/// Why it cannot be had or opened.
pub(crate) fn open(args: &ModelArgs, live: &Live) -> Result<OpenedModel, Failure> {
    match is_address(args.spec()) {
        true if args.arithmetic.is_some() => Err(Failure::usage(
            "--arithmetic is of a model of this machine",
            "leave it out: a model behind HTTP computes as its server does",
        )),
        true if args.profile.is_some() => Err(Failure::usage(
            "--profile is of a model of this machine",
            "leave it out: of a model behind HTTP every answer is read that an edit may concern",
        )),
        true if args.warm.is_some() => Err(Failure::usage(
            "--warm is of a model of this machine",
            "leave it out: of a model behind HTTP nothing that it has read is kept here",
        )),
        true => remote::open(args.spec(), None, args, live),
        false if is_of_a_server(args) => Err(Failure::usage(
            "--key-file, --ca-file, --context-window, --leave-one-out and prices are of a model behind HTTP",
            "leave them out, or give its address: --model http://localhost:8000/v1",
        )),
        false => {
            let said = OfThisMachine {
                arithmetic: args.arithmetic,
                profile: args.profile.clone(),
                warm: args.warm,
            };
            open_local(args.spec(), said, args, live)
        }
    }
}

/// The same, with texts embedded as the options say.
///
/// # Errors
/// Why it, or what embeds, cannot be had or opened.
pub(crate) fn open_whole(args: &ModelArgs, live: &Live) -> Result<OpenedModel, Failure> {
    let opened = open(args, live)?;
    Ok(OpenedModel {
        runtime: with_embedder(opened.runtime, &args.embedder, live)?,
        ..opened
    })
}

/// What an engine computes with, with texts embedded as the options say.
///
/// # Errors
/// Why what embeds cannot be used.
pub(crate) fn with_embedder(
    runtime: Runtime,
    args: &EmbedderArgs,
    live: &Live,
) -> Result<Runtime, Failure> {
    match &args.embedder {
        None => Ok(runtime),
        Some(spec) if is_address(spec) => remote::with_embedder(runtime, spec, args, live),
        Some(spec) => Err(Failure::usage(
            format!("--embedder {spec} is no address of a server"),
            "write it as http://localhost:8000/v1#name; without it, a model of this machine embeds",
        )),
    }
}

/// Whether something is said of a model behind HTTP.
fn is_of_a_server(args: &ModelArgs) -> bool {
    let is_priced = args.prices.price_input.is_some();
    let is_reached = args.key_file.is_some() || args.ca_file.is_some();
    let is_asked_more = args.context_window.is_some() || args.leave_one_out.is_some();
    is_reached || is_priced || is_asked_more
}

/// Whether something is said of a model of this machine.
fn is_of_this_machine(args: &ModelArgs) -> bool {
    args.arithmetic.is_some() || args.profile.is_some() || args.warm.is_some()
}

/// Whether a state folder is free: told before a model is opened, which may take long.
///
/// # Errors
/// That another process has it.
pub(crate) fn check_state(folder: Option<&Path>) -> Result<(), Failure> {
    if let Some(folder) = folder {
        perennial::state::check_free(folder).map_err(perennial::Error::from)?;
    }
    Ok(())
}

/// Refuses what the command line says of `--model` where a script creates the model that is asked: it
/// would have no effect.
///
/// # Errors
/// That it has none.
pub(crate) fn check_script(first: Option<&CreateModel>, args: &ModelArgs) -> Result<(), Failure> {
    match first {
        Some(_) if is_of_a_server(args) || is_of_this_machine(args) => Err(Failure::usage(
            "--key-file, --ca-file, --context-window, --leave-one-out, prices, --arithmetic, --profile and --warm are \
             of --model, and the script creates a model of its own",
            "say it there: CREATE MODEL name FROM '…' WITH (KEY_FILE = '…')",
        )),
        _ => Ok(()),
    }
}

/// Refuses what names no model: neither an address nor a known name nor a file.
///
/// # Errors
/// That there is none of this name, with those that are known.
pub(crate) fn check_name(spec: &str) -> Result<(), Failure> {
    match is_address(spec) {
        true => Ok(()),
        false => Ok(ModelSpec::parse(spec).map(drop)?),
    }
}

/// Refuses a script that creates a model of which nothing is known by its name, before anything of it is
/// carried out.
///
/// # Errors
/// All such names, with their places.
pub(crate) fn check_names(
    script: &Script,
    statements: &[Spanned<Statement>],
) -> Result<(), Failure> {
    let faults = statements.iter().filter_map(|statement| {
        let Statement::CreateModel(CreateModel { spec, .. }) = &statement.of else {
            return None;
        };
        let unknown = ModelSpec::parse(&spec.of).err()?;
        (!is_address(&spec.of)).then(|| Diagnostic::new(unknown.to_string(), spec.span))
    });
    let faults: Vec<Diagnostic> = faults.collect();
    match faults.is_empty() {
        true => Ok(()),
        false => Err(Failure::Script {
            errors: script.errors(faults),
        }),
    }
}

/// What embeds texts, found and opened when the first comes, with its progress on `live`; it asks no
/// language model.
///
/// # Errors
/// A setting of the environment that cannot be used.
pub(crate) fn embedding(cache: Option<&Path>, live: &Live) -> Result<Runtime, Failure> {
    let live = live.clone();
    Ok(embedding_only(locator(cache)?, move || live.bytes()))
}

/// The model that reads what a memory is recalled by: the one named, by the profile in this file or the one
/// that is known of it.
///
/// # Errors
/// Why it cannot be had or opened; that its heads are not known.
pub(crate) fn latent(
    model: &str,
    profile: Option<&Path>,
    cache: Option<&Path>,
    live: &Live,
) -> Result<Arc<LatentReader>, Failure> {
    let local = open_to_read(model, profile, cache, live)?;
    local.latent().cloned().ok_or_else(|| {
        let what = format!("which heads of {} tell texts apart is not known", local.name());
        Failure::usage(
            what,
            "choose them: perennial memory calibrate --model NAME --pairs FILE; then say --profile FILE",
        )
    })
}

/// A model of this machine that is to write nothing.
///
/// # Errors
/// Why it cannot be had or opened.
pub(crate) fn open_to_read(
    model: &str,
    profile: Option<&Path>,
    cache: Option<&Path>,
    live: &Live,
) -> Result<LocalModel, Failure> {
    if is_address(model) {
        return Err(Failure::usage(
            format!("{model} is a model behind HTTP, which shows nothing of what it reads"),
            "name a model of this machine: --model smollm2-135m",
        ));
    }
    let options = LocalModelOptions {
        latent_profile: profile.map(Path::to_owned),
        ..LocalModelOptions::default()
    };
    let embedder_live = live.clone();
    let embedder = move || embedder_live.bytes();
    let locator = locator(cache)?;
    let model = LocalModel::open_with(model, &options, &locator, &mut *live.bytes(), embedder)?;
    Ok(model)
}

/// The same for a model that a statement names.
///
/// # Errors
/// Why it cannot be had or opened.
pub(crate) fn open_created(
    model: &CreateModel,
    args: &ModelArgs,
    live: &Live,
) -> Result<OpenedModel, Failure> {
    match is_address(&model.spec.of) {
        true => remote::open(&model.spec.of, Some(&model.options), args, live),
        // What the command line says is about the model that it names.
        false => {
            let mut said = OfThisMachine::default();
            for option in &model.options {
                match &option.of {
                    ModelOption::Arithmetic(of) => said.arithmetic = Some(*of),
                    ModelOption::Profile(path) => said.profile = Some(PathBuf::from(&**path)),
                    ModelOption::Warm(coding) => said.warm = Some(*coding),
                    // The others are of models behind HTTP, which the grammar sees to.
                    _ => {}
                }
            }
            open_local(&model.spec.of, said, args, live)
        }
    }
}

/// What is said of a model of this machine.
#[derive(Default)]
struct OfThisMachine {
    arithmetic: Option<Arithmetic>,
    profile: Option<PathBuf>,
    warm: Option<Coding>,
}

fn open_local(
    spec: &str,
    said: OfThisMachine,
    args: &ModelArgs,
    live: &Live,
) -> Result<OpenedModel, Failure> {
    let mut options = LocalModelOptions {
        store_bytes: args.memory.0,
        warm: said.warm,
        arithmetic: said.arithmetic.unwrap_or_default(),
        profile: said.profile.map_or(ProfileFrom::Found, ProfileFrom::File),
        ..LocalModelOptions::default()
    };
    if let Some(n_threads) = args.threads {
        options.n_threads = n_threads;
    }
    let model = local(spec, &options, args.cache.as_deref(), live)?;
    Ok(OpenedModel {
        name: model.name().to_owned(),
        runtime: model.runtime(),
    })
}

/// Finds and opens a model of this machine, with its progress on `live`.
///
/// # Errors
/// Why it cannot be had or opened.
pub(crate) fn local(
    spec: &str,
    options: &LocalModelOptions,
    cache: Option<&Path>,
    live: &Live,
) -> Result<LocalModel, Failure> {
    let (locator, embedder_live) = (locator(cache)?, live.clone());
    let embedder_progress = move || embedder_live.bytes();
    let model = LocalModel::open_with(
        spec,
        options,
        &locator,
        &mut *live.bytes(),
        embedder_progress,
    )?;
    Ok(model)
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
    if let Some(cost) = args.cost_per_hour {
        view = view.cost_per_hour(cost);
    }
    if let Some(order) = args.order {
        view = view.order_by(order);
    }
    match &args.prompt {
        Some(prompt) => view.prompt(prompt),
        None => view,
    }
}
