//! A model behind HTTP, opened by what options and statements say.

use std::process::ExitCode;

use perennial::Runtime;
use perennial::sql::{ModelOption, Spanned};

use super::args::{EmbedderArgs, ModelArgs, ProbeArgs};
use super::failure::Failure;
use super::live::Live;
use super::opening::OpenedModel;

#[cfg(not(feature = "remote"))]
pub(crate) use absent::{open, probe, with_embedder};
#[cfg(feature = "remote")]
pub(crate) use present::{open, probe, with_embedder};

#[cfg(feature = "remote")]
mod present {
    use std::io::{self, Write};
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use perennial::ask::Prices;
    use perennial::ask::remote::{
        ApiKey, EmbedderOptions, RemoteEmbedder, RemoteError, RemoteLimits, RemoteModel,
        RemoteOptions,
    };
    use perennial::{LocalModelOptions, RemoteRuntime as _};
    use serde_json::json;

    use super::*;
    use crate::cli::args::PriceArgs;
    use crate::cli::{opening, wording};

    /// Where the key stands unless something else is said.
    const KEY_VARIABLE: &str = "PERENNIAL_API_KEY";
    /// Where that of an embedder stands.
    const EMBEDDER_KEY_VARIABLE: &str = "PERENNIAL_EMBEDDER_KEY";

    /// Finds the model of an address, with what is known only by asking it.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(crate) fn open(
        spec: &str,
        given: Option<&[Spanned<ModelOption>]>,
        args: &ModelArgs,
        live: &Live,
    ) -> Result<OpenedModel, Failure> {
        // What the command line says is about the model that it names: a key is for one server.
        let options = match given {
            None => RemoteOptions {
                n_positions: args.context_window,
                prices: prices(&args.prices)?,
                leave_one_out: args.leave_one_out.unwrap_or(0),
                ..defaults(args.key_file.as_deref(), args.ca_file.as_ref())?
            },
            Some(given) => with(RemoteOptions::default(), given)?,
        };
        warn_of_key(spec, options.key.as_ref(), live);
        live.say(&format!("asking {spec} what it can do"));
        let says_nothing = options.n_positions.is_none();
        let model = RemoteModel::open(spec, &options)?;
        let locator = opening::locator(args.cache.as_deref())?;
        let n_threads = args
            .threads
            .unwrap_or(LocalModelOptions::default().n_threads);
        let name = format!("{}#{}", model.address(), model.name());
        if says_nothing && model.report().n_positions.is_none() {
            live.say(&format!(
                "{name} does not say how many tokens it attends to; {} are taken; \
                 CONTEXT_WINDOW or --context-window says more",
                model.context_window()
            ));
        }
        let live = live.clone();
        let runtime = model.runtime(&locator, n_threads, move || live.bytes());
        Ok(OpenedModel {
            runtime: runtime.named(name.as_str()),
            name,
        })
    }

    /// Has the model of an address embed texts.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(crate) fn with_embedder(
        runtime: Runtime,
        spec: &str,
        args: &EmbedderArgs,
        live: &Live,
    ) -> Result<Runtime, Failure> {
        let usual = RemoteLimits::default();
        let options = EmbedderOptions {
            key: key(args.embedder_key_file.as_deref(), EMBEDDER_KEY_VARIABLE)?,
            authorities: args.embedder_ca_file.clone(),
            limits: RemoteLimits {
                at_once: args.embedder_calls_at_once.unwrap_or(usual.at_once),
                requests_per_minute: args.embedder_requests_per_minute,
                tokens_per_minute: args.embedder_tokens_per_minute,
            },
            ..EmbedderOptions::default()
        };
        warn_of_key(spec, options.key.as_ref(), live);
        let embedder = RemoteEmbedder::open(spec, &options)?;
        let (address, name) = (embedder.address(), embedder.name());
        let n_dimensions = embedder.n_dimensions();
        live.say(&format!(
            "{address}#{name} embeds texts, in {n_dimensions} dimensions"
        ));
        let at_once = embedder.at_once();
        Ok(runtime.embedding_by(Arc::new(embedder), at_once))
    }

    fn warn_of_key(spec: &str, key: Option<&ApiKey>, live: &Live) {
        if key.is_some() && spec.starts_with("http://") && !is_of_this_machine(spec) {
            live.say(&format!(
                "{spec} is no https: its key can be read on the way"
            ));
        }
    }

    /// Whether an address is one of this machine.
    fn is_of_this_machine(spec: &str) -> bool {
        let host = spec.trim_start_matches("http://");
        let here = ["localhost", "127.0.0.1", "[::1]"];
        here.into_iter().any(|name| {
            let rest = host.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/', '#']))
        })
    }

    /// Asks a server what it can do, and prints it.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(crate) fn probe(args: &ProbeArgs) -> Result<ExitCode, Failure> {
        let options = defaults(args.key_file.as_deref(), args.ca_file.as_ref())?;
        let model = RemoteModel::open(&args.address, &options)?;
        let mut out = io::stdout().lock();
        let written = match args.json {
            true => writeln!(out, "{}", object(&model)),
            false => print(&mut out, &model),
        };
        written.map_err(Failure::output)?;
        Ok(ExitCode::SUCCESS)
    }

    fn object(model: &RemoteModel) -> serde_json::Value {
        let report = model.report();
        json!({
            "address": model.address().to_string(),
            "model": model.name(),
            "software": report.software,
            "models": report.models,
            "context_window": report.n_positions,
            "streams": report.streams,
            "counts_tokens": report.counts_tokens,
            "cached_tokens": report.n_cached,
            "prompt_logprobs": report.scores_prompts,
            "input_token_logprobs": report.scores_natively,
            "logprobs": report.scores_answers,
            "json_schemas": report.obeys_schemas,
            "thinks": report.thinks,
            "repeats": {
                "alone": report.repeats.alone,
                "together": report.repeats.together,
                "failed_together": report.repeats.failed_together,
                "of": report.repeats.of,
            },
        })
    }

    fn print(out: &mut impl Write, model: &RemoteModel) -> io::Result<()> {
        let report = model.report();
        let software = report.software.as_deref().unwrap_or("a server");
        let (address, name) = (model.address(), model.name());
        writeln!(out, "{name} at {address}: {}", wording::plain(software))?;
        let yes = |is: bool, yes: &str, no: &str| if is { yes } else { no }.to_owned();
        let window = match report.n_positions {
            Some(n) => format!("{} tokens", wording::thousands(n)),
            None => format!("it does not say; {} are taken", model.context_window()),
        };
        let repeats = report.repeats;
        let of = repeats.of;
        let lines = [
            ("attends to", window),
            ("streams", yes(report.streams, "yes", "no")),
            (
                "counts tokens",
                yes(report.counts_tokens, "yes", "no: costs are estimates"),
            ),
            (
                "keeps what it read",
                match report.n_cached {
                    Some(0) => "no: the same prompt was read again".to_owned(),
                    Some(n) => format!("yes: {n} tokens of the same prompt were not read again"),
                    None => "it does not say".to_owned(),
                },
            ),
            (
                "checks an answer",
                match (report.scores_prompts, report.scores_natively) {
                    (_, true) => {
                        "yes, in two requests (input_token_logprobs): what stands is not written again"
                    }
                    (true, false) => {
                        "yes, in one request (prompt_logprobs): what stands is not written again"
                    }
                    (false, false) => {
                        "no (no prompt_logprobs, no input_token_logprobs): an answer that may have \
                         changed is written anew"
                    }
                }
                .to_owned(),
            ),
            (
                "scores choices",
                yes(
                    report.scores_answers,
                    "yes (logprobs): a choice is what the row makes likelier",
                    "no (no logprobs)",
                ),
            ),
            (
                "obeys JSON schemas",
                yes(
                    report.obeys_schemas,
                    "yes",
                    "no: choices are read from its words",
                ),
            ),
            (
                "thinks first",
                yes(report.thinks, "yes: what it thinks is left out", "no"),
            ),
            (
                "says the same",
                format!(
                    "{} of {of} times one after the other, {} of {of} at once{}",
                    repeats.alone,
                    repeats.together,
                    match repeats.failed_together {
                        0 => "",
                        _ => "; it takes one request at a time, so one is made at a time",
                    }
                ),
            ),
        ];
        for (what, said) in lines {
            writeln!(out, "  {what:20}{said}")?;
        }
        Ok(())
    }

    /// What holds where a statement says nothing else.
    fn defaults(
        key_file: Option<&Path>,
        ca_file: Option<&PathBuf>,
    ) -> Result<RemoteOptions, RemoteError> {
        Ok(RemoteOptions {
            key: key(key_file, KEY_VARIABLE)?,
            authorities: ca_file.cloned(),
            ..RemoteOptions::default()
        })
    }

    /// The same with what a statement says.
    fn with(
        mut options: RemoteOptions,
        given: &[Spanned<ModelOption>],
    ) -> Result<RemoteOptions, RemoteError> {
        let mut said = PriceArgs::default();
        for option in given {
            match &option.of {
                ModelOption::KeyFile(path) => {
                    options.key = Some(ApiKey::from_file(Path::new(&**path))?);
                }
                ModelOption::KeyVariable(name) => options.key = Some(in_environment(name)?),
                ModelOption::CaFile(path) => options.authorities = Some(PathBuf::from(&**path)),
                ModelOption::ContextWindow(n) => options.n_positions = Some(*n),
                ModelOption::ThinkingTokens(n) => options.thinking_tokens = Some(*n),
                ModelOption::CallsAtOnce(n) => options.limits.at_once = *n,
                ModelOption::RequestsPerMinute(n) => options.limits.requests_per_minute = Some(*n),
                ModelOption::TokensPerMinute(n) => options.limits.tokens_per_minute = Some(*n),
                ModelOption::Patience(patience) => options.patience = *patience,
                ModelOption::PriceInput(price) => said.price_input = Some(*price),
                ModelOption::PriceCachedInput(price) => said.price_cached_input = Some(*price),
                ModelOption::PriceOutput(price) => said.price_output = Some(*price),
                ModelOption::Currency(currency) => said.currency = Some(*currency),
                ModelOption::LeaveOneOut(n) => options.leave_one_out = *n,
                // Told where it is read.
                _ => {}
            }
        }
        options.prices = prices(&said)?;
        Ok(options)
    }

    /// The prices that are said; all of them, or none.
    fn prices(said: &PriceArgs) -> Result<Option<Prices>, RemoteError> {
        let PriceArgs {
            price_input,
            price_cached_input,
            price_output,
            currency,
        } = *said;
        if let (Some(input), Some(output), Some(currency)) = (price_input, price_output, currency) {
            let prices = Prices::of_a_million((input, price_cached_input, output), currency);
            return prices.map(Some).map_err(RemoteError::Setting);
        }
        let is_silent = price_input.is_none() && price_output.is_none() && currency.is_none();
        match is_silent && price_cached_input.is_none() {
            true => Ok(None),
            false => Err(RemoteError::Setting(
                "prices are PRICE_INPUT, PRICE_OUTPUT and CURRENCY together".to_owned(),
            )),
        }
    }

    /// The key of a file, else of a variable, if either is.
    fn key(file: Option<&Path>, variable: &str) -> Result<Option<ApiKey>, RemoteError> {
        match file {
            Some(path) => Ok(Some(ApiKey::from_file(path)?)),
            None if std::env::var_os(variable).is_some() => Ok(Some(in_environment(variable)?)),
            None => Ok(None),
        }
    }

    fn in_environment(name: &str) -> Result<ApiKey, RemoteError> {
        let unset = |_| RemoteError::Setting(format!("{name} is not set in the environment"));
        ApiKey::new(&std::env::var(name).map_err(unset)?)
    }
}

#[cfg(not(feature = "remote"))]
mod absent {
    use super::*;

    pub(crate) fn open(
        _spec: &str,
        _given: Option<&[Spanned<ModelOption>]>,
        _args: &ModelArgs,
        _live: &Live,
    ) -> Result<OpenedModel, Failure> {
        Err(not_built())
    }

    pub(crate) fn probe(_args: &ProbeArgs) -> Result<ExitCode, Failure> {
        Err(not_built())
    }

    pub(crate) fn with_embedder(
        _runtime: Runtime,
        _spec: &str,
        _args: &EmbedderArgs,
        _live: &Live,
    ) -> Result<Runtime, Failure> {
        Err(not_built())
    }

    fn not_built() -> Failure {
        Failure::usage(
            "this program was built without models behind HTTP",
            "build it with --features remote",
        )
    }
}
