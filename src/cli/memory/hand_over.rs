//! `perennial memory export` and `import`: what one memory hands over to another.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use perennial::ask::TensorModel;
use perennial::bank::HandedOver;
use perennial::bank::parcel::{ParcelError, Signer};
use perennial::memory::hand_over::{Audit, Export, HandOverError, Import, Imported};
use serde_json::json;
use tempfile::NamedTempFile;

use super::super::args::ModelArgs;
use super::super::failure::Failure;
use super::super::live::Live;
use super::super::{opening, stderr, wording};
use super::args::{ExportArgs, ImportArgs, Verify};
use super::received;
use super::{Opened, open, open_known_at};

/// How long a server may take: it encodes what it has not read yet.
#[cfg(feature = "serve")]
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2 * 3_600);
/// Bytes that a file with a key may have.
const MAX_KEY_FILE: u64 = 1 << 10;

/// Runs `perennial memory export`.
pub(super) fn export(args: &ExportArgs) -> Result<ExitCode, Failure> {
    let signer = args.sign.as_deref().map(signer).transpose()?;
    let out = &args.out;
    if out.exists() {
        return Err(Failure::usage(
            format!("{}: there is such a file already", out.display()),
            "name another, or take that away",
        ));
    }
    let (cache, embedder) = (args.model.cache.as_deref(), &args.model.embedder);
    let opened = open_known_at(&args.state, cache, embedder, args.json)?;
    let now_ms = now_ms();
    let mut what = Export::at(now_ms).told(opened.received.told()?);
    if let Some(reader) = &args.seen.reader {
        what = what.reader(reader);
    }
    if let Some(namespace) = &args.seen.namespace {
        what = what.namespace(namespace);
    }
    if let Some(writer) = &args.writer {
        what = what.writer(writer);
    }
    if let Some(age) = args.expires {
        let ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        what = what.expiring_at(now_ms.saturating_add(ms));
    }
    if let Some(coding) = args.coding {
        what = what.coded(coding);
    }
    let model = match args.texts_only {
        true => None,
        false => Some(tensors(&args.model, args.json)?),
    };
    // What was audited when it came need not be encoded again.
    let _held = model
        .as_ref()
        .map(|model| hold(&opened, model, &what_is_told(&opened, args)));
    let cannot_write = || format!("write {}", out.display());
    let parent = out.parent().filter(|of| !of.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    // Both can be read by the user alone: what is in them is as good as the texts.
    let spool = NamedTempFile::new_in(parent).map_err(Failure::io(cannot_write()))?;
    let mut file = NamedTempFile::new_in(parent).map_err(Failure::io(cannot_write()))?;
    let exported = opened.bank.export(
        &what,
        model.as_deref(),
        signer.as_ref(),
        spool,
        &mut io::BufWriter::new(file.as_file_mut()),
    )?;
    let synced = file.as_file().sync_all();
    synced.map_err(Failure::io(cannot_write()))?;
    let kept = file.persist_noclobber(out).map_err(|error| error.error);
    kept.map_err(Failure::io(cannot_write()))?;
    let mut said = io::stdout().lock();
    let written = match args.json {
        true => writeln!(said, "{}", json!({"event": "exported", "parcel": exported})),
        false => {
            let signed = match &exported.signed_by {
                Some(key) => format!("signed by {key}"),
                None => "not signed".to_owned(),
            };
            writeln!(
                said,
                "{}: {}, {} of {}, {}{}\nparcel {}, {signed}",
                out.display(),
                entries(exported.n_entries),
                wording::count(exported.n_fragments, "fragment"),
                wording::count(exported.n_tokens, "token"),
                wording::megabytes(exported.n_bytes),
                exported
                    .coding
                    .as_ref()
                    .map_or(String::new(), |of| format!(" as {of}")),
                exported.root,
            )
        }
    };
    written.map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}

/// The entries that an export is about.
fn what_is_told(opened: &Opened, args: &ExportArgs) -> Vec<Arc<perennial::memory::Entry>> {
    let (reader, namespace) = (args.seen.reader.as_deref(), args.seen.namespace.as_deref());
    // What is wrong with the names is said when it is packed.
    opened.bank.list(reader, namespace).unwrap_or_default()
}

/// Runs `perennial memory import`.
pub(super) fn import(args: &ImportArgs) -> Result<ExitCode, Failure> {
    if args.verify == Verify::Signature && args.trust.is_empty() {
        return Err(Failure::usage(
            "--verify signature needs to know whose signature is taken",
            "name the public key: --trust KEY, as `perennial memory export --sign` prints it",
        ));
    }
    if args.sample.is_some() && args.verify != Verify::Ids {
        return Err(Failure::usage(
            "--sample is of --verify ids",
            "leave it out: --verify audit encodes all again, and the others encode nothing",
        ));
    }
    let mut how = Import::at(now_ms()).replacing(args.replace);
    if !args.trust.is_empty() {
        how = how.trusting(args.trust.iter().map(|key| key.0));
    }
    if let Some(namespace) = &args.namespace {
        how = how.into_namespace(namespace);
    }
    let audit = match (args.verify, args.sample) {
        (Verify::Audit, _) => Audit::Everything,
        (_, Some(n)) => Audit::Sample(n),
        (_, None) => Audit::Nothing,
    };
    let model = match args.verify {
        Verify::Digests | Verify::Signature => None,
        Verify::Ids | Verify::Audit => Some(tensors(&args.model, args.json)?),
    };
    let how = how.auditing(audit);
    let imported = match &args.parcel {
        Some(path) => of_file(path, args, how, model.as_deref())?,
        None => of_server(args, &how, model.as_deref())?,
    };
    let mut said = io::stdout().lock();
    if args.json {
        let told = json!({"event": "imported", "parcel": imported});
        writeln!(said, "{told}").map_err(Failure::output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let signed = match &imported.signed_by {
        Some(key) => format!("signed by {key}"),
        None => "not signed".to_owned(),
    };
    let mut lines = vec![
        format!("{} stored", entries(imported.n_entries)),
        format!("parcel {}, {signed}", imported.root),
    ];
    let fragments = |n, what: &str| format!("{} {what}", wording::count(n, "fragment"));
    if imported.n_audited > 0 {
        let what = "encoded again, and what came is equal in every bit: exact";
        lines.push(fragments(imported.n_audited, what));
    }
    if imported.n_stand_ins > 0 {
        let what =
            "not audited: answers over them are provisional; --verify audit makes them exact";
        lines.push(fragments(imported.n_stand_ins, what));
    }
    if imported.n_left_out > 0 {
        let what = "left out: only --verify ids or audit holds them against a model";
        lines.push(fragments(imported.n_left_out, what));
    }
    for line in lines {
        writeln!(said, "{line}").map_err(Failure::output)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn of_file(
    path: &Path,
    args: &ImportArgs,
    how: Import,
    model: Option<&TensorModel>,
) -> Result<Imported, Failure> {
    let cannot_read = || format!("read {}", path.display());
    let file = File::open(path).map_err(Failure::io(cannot_read()))?;
    let size = file.metadata().map_err(Failure::io(cannot_read()))?;
    let how = how.of_bytes(size.len());
    let mut opened = opened_for(args)?;
    let shelf = &mut opened.received;
    Ok(opened
        .bank
        .import(BufReader::new(file), &how, model, shelf)?)
}

fn opened_for(args: &ImportArgs) -> Result<Opened, Failure> {
    let (cache, embedder) = (args.model.cache.as_deref(), &args.model.embedder);
    open(&args.state, cache, embedder, None, args.json)
}

/// Asks a server for what is missing, and takes a transfer that broke off up where it ended.
#[cfg(feature = "serve")]
fn of_server(
    args: &ImportArgs,
    how: &Import,
    model: Option<&TensorModel>,
) -> Result<Imported, Failure> {
    use super::super::args::AccessArgs;
    use super::super::endpoint::Endpoint;

    let from = &args.from;
    let access = AccessArgs {
        token_file: from.token_file.clone(),
        ca_file: from.server_ca_file.clone(),
    };
    let address = from.url.as_deref().unwrap_or_default();
    let server = Endpoint::at(address, &access, PATIENCE)?;
    let name = from.from_memory.as_deref().unwrap_or_default();
    let name: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
    let path = format!("/v1/memories/{}/parcel", name.replace('+', "%20"));
    let mut opened = opened_for(args)?;
    let mut n_had = None;
    loop {
        let have = match model {
            Some(model) => opened.received.have(&model.parts())?,
            None => Vec::new(),
        };
        let wanted = json!({
            "as": from.reader,
            "namespace": from.from_namespace,
            "have": have,
            "texts_only": model.is_none(),
            "coding": from.coding.map(|coding| coding.to_string()),
        });
        let reply = server.post(&path, wanted.to_string().as_bytes())?;
        let body = reply.into_body().into_reader();
        let shelf = &mut opened.received;
        match opened.bank.import(BufReader::new(body), how, model, shelf) {
            // Where something came, the rest may, too.
            Err(HandOverError::Parcel(ParcelError::Cut { .. } | ParcelError::Io(_)))
                if n_had.replace(have.len()) != Some(have.len()) => {}
            done => return Ok(done?),
        }
    }
}

#[cfg(not(feature = "serve"))]
fn of_server(_: &ImportArgs, _: &Import, _: Option<&TensorModel>) -> Result<Imported, Failure> {
    Err(Failure::usage(
        "this program was built without what speaks to servers",
        "build it with --features serve, or name a file",
    ))
}

fn entries(n: usize) -> String {
    match n {
        1 => "1 entry".to_owned(),
        n => format!("{} entries", wording::thousands(n)),
    }
}

/// Puts what is kept for these entries into the model's store, and tells what could not be read.
pub(super) fn hold(
    opened: &Opened,
    model: &TensorModel,
    entries: &[Arc<perennial::memory::Entry>],
) -> (HandedOver, usize) {
    let into = HandedOver::to(model.store().clone());
    let texts = entries.iter().map(|entry| received::id_of(entry));
    let held = opened.received.folder().hold(texts, &model.parts(), &into);
    for trouble in &held.troubles {
        stderr::line(&wording::plain(trouble));
    }
    (into, held.n_stand_ins)
}

/// The model that the options name, whose fragments are handed over.
fn tensors(args: &ModelArgs, is_quiet: bool) -> Result<Arc<TensorModel>, Failure> {
    let live = Live::new(is_quiet);
    let opened = opening::open(args, &live)?;
    let model = opened.runtime.tensor_model().cloned();
    model.ok_or_else(|| {
        Failure::usage(
            format!(
                "{} is a model behind HTTP: no fragments of it are here",
                opened.name
            ),
            "name a model of this machine, or hand over texts alone: export --texts-only, \
             import --verify digests",
        )
    })
}

/// Who signs with the key in a file: 64 hexadecimal digits.
fn signer(path: &Path) -> Result<Signer, Failure> {
    let shown = path.display();
    let file = File::open(path).map_err(Failure::io(format!("read {shown}")))?;
    let mut text = String::new();
    let read = file.take(MAX_KEY_FILE).read_to_string(&mut text);
    read.map_err(Failure::io(format!("read {shown}")))?;
    let secret = key_of(text.trim()).map_err(|expected| {
        Failure::usage(
            format!("{shown} holds no key: {expected}"),
            "make one: (umask 077; openssl rand -hex 32 > FILE)",
        )
    })?;
    let signer = Signer::of(&secret);
    signer.map_err(|error| Failure::usage(format!("{shown}: {error}"), "make another key"))
}

/// The bytes of 64 hexadecimal digits.
pub(super) fn key_of(text: &str) -> Result<[u8; 32], String> {
    let expected = || "expected 64 hexadecimal digits".to_owned();
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(expected());
    }
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| expected())?;
    }
    Ok(bytes)
}

/// This machine's clock, in milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

impl From<HandOverError> for Failure {
    fn from(error: HandOverError) -> Self {
        let hint = match &error {
            HandOverError::Parcel(parcel) => match parcel {
                ParcelError::Cut { .. }
                | ParcelError::Short { .. }
                | ParcelError::Damaged { .. } => "get it again: nothing of it was taken",
                ParcelError::OtherModel { .. } => {
                    "name the model that it is of: --model; or take the texts alone: --verify digests"
                }
                ParcelError::Untrusted { .. } | ParcelError::Unsigned => {
                    "nothing of it was taken; --trust KEY says whose parcels are"
                }
                ParcelError::Replayed { .. } => {
                    "nothing is to be done: its entries were stored then"
                }
                ParcelError::Expired { .. } => "ask who wrote it for a new one",
                _ => "nothing of it was taken",
            },
            HandOverError::Taken { .. } => {
                "nothing of it was taken; --replace puts the parcel's in place of what is here"
            }
            HandOverError::Nothing => "`perennial memory list` lists what may be read",
            _ => "nothing of it was taken",
        };
        match error {
            HandOverError::Memory(error) => error.into(),
            HandOverError::Model(error) => error.into(),
            HandOverError::Parcel(ParcelError::Io(source)) => Self::Io {
                action: "read or write the parcel".to_owned(),
                source,
            },
            HandOverError::Io { path, source } => Self::Io {
                action: format!("use {}", path.display()),
                source,
            },
            other => Self::Refused {
                what: other.to_string(),
                hint,
            },
        }
    }
}
