//! From what a script names to sources and sinks.

use std::path::Path;
use std::sync::Arc;

#[cfg(feature = "http")]
use perennial_connectors::HttpIntake;
use perennial_connectors::{
    BearerToken, ColumnNames, DeadLetters, Folder, Format, HttpLimits, HttpListener, JsonLines,
    JsonLinesSink, Kafka, KafkaSink, Sink, Source, Table, Watching, Webhook, glob_list,
};
use perennial_views::sql::{
    self, CreateSink, CreateSource, Diagnostic, Origin, SinkOption, SourceOption, Span, Spanned,
};

use super::outcome::{At, Fault};

/// Where the sources of a session that are posted are posted to.
#[derive(Default)]
pub(super) struct Listeners {
    /// Listeners that sources share, by their address as it was written.
    listeners: Vec<(Arc<str>, HttpListener)>,
    /// Where those are posted to that name no address.
    #[cfg(feature = "http")]
    intake: Option<HttpIntake>,
}

/// The options of a source, each where it was given.
#[derive(Default)]
struct Options<'a> {
    follow: Option<bool>,
    columns: ColumnNames,
    format: Option<sql::Format>,
    listen: Option<Spanned<&'a Arc<str>>>,
    token_file: Option<Spanned<&'a Arc<str>>>,
    settings_file: Option<Spanned<&'a Arc<str>>>,
    settings: Vec<(String, String)>,
    include: Option<Spanned<&'a Arc<str>>>,
    exclude: Option<Spanned<&'a Arc<str>>>,
    ignore_files: Option<bool>,
    believe_empty: bool,
    delimiter: Option<Spanned<&'a Arc<str>>>,
    encoding: Option<Spanned<&'a Arc<str>>>,
}

impl<'a> Options<'a> {
    fn of(source: &'a CreateSource) -> Self {
        let mut options = Self::default();
        for Spanned { of, span } in &source.options {
            match of {
                SourceOption::Follow(follow) => options.follow = Some(*follow),
                SourceOption::Field(field, column) => {
                    options.columns.set(field.name(), &**column);
                }
                SourceOption::Format(format) => options.format = Some(*format),
                SourceOption::Listen(address) => {
                    options.listen = Some(Spanned::new(address, *span));
                }
                SourceOption::TokenFile(path) => {
                    options.token_file = Some(Spanned::new(path, *span));
                }
                SourceOption::SettingsFile(path) => {
                    options.settings_file = Some(Spanned::new(path, *span));
                }
                SourceOption::Setting(name, value) => {
                    options.settings.push((name.to_string(), value.to_string()));
                }
                SourceOption::Include(globs) => options.include = Some(Spanned::new(globs, *span)),
                SourceOption::Exclude(globs) => options.exclude = Some(Spanned::new(globs, *span)),
                SourceOption::IgnoreFiles(are) => options.ignore_files = Some(*are),
                SourceOption::BelieveEmpty(is) => options.believe_empty = *is,
                SourceOption::Delimiter(text) => {
                    options.delimiter = Some(Spanned::new(text, *span));
                }
                SourceOption::Encoding(label) => {
                    options.encoding = Some(Spanned::new(label, *span));
                }
                _ => {}
            }
        }
        options
    }
}

/// The source that a statement names, and where records may be posted, if they may. One that is
/// read `once` ends when it has said what it holds.
pub(super) fn source(
    source: &CreateSource,
    listeners: &mut Listeners,
    once: bool,
) -> Result<(Box<dyn Source>, Option<String>), Fault> {
    let name = source.name.of.to_string();
    let options = Options::of(source);
    let follows = options.follow.unwrap_or(true) && !once;
    let source: Box<dyn Source> = match &source.from {
        Origin::Folder(path) => {
            let watching = match follows {
                true => Watching::Auto,
                false => Watching::Once,
            };
            let mut folder = Folder::open(name, [&*path.of]).at(path.span)?;
            if let Some(globs) = options.include {
                folder = folder.include(glob_list(globs.of)).at(globs.span)?;
            }
            if let Some(globs) = options.exclude {
                folder = folder.exclude(glob_list(globs.of)).at(globs.span)?;
            }
            folder = folder
                .ignore_files(options.ignore_files.unwrap_or(true))
                .believe_empty(options.believe_empty);
            Box::new(folder.watching(watching))
        }
        Origin::File(path) if &*path.of == "-" => {
            let lines = JsonLines::stdin(name).at(path.span)?;
            Box::new(lines.columns(options.columns))
        }
        Origin::File(path) => {
            let lines = JsonLines::open(name, &*path.of).at(path.span)?;
            let lines = lines.columns(options.columns).follow(follows);
            Box::new(lines.believe_empty(options.believe_empty))
        }
        Origin::Table(path) => {
            let mut table = Table::open(name, &*path.of).at(path.span)?;
            if let Some(delimiter) = options.delimiter {
                table = table.delimited_by(delimiter.of).at(delimiter.span)?;
            }
            if let Some(encoding) = options.encoding {
                table = table.encoding(encoding.of).at(encoding.span)?;
            }
            Box::new(table.columns(options.columns).follow(follows))
        }
        Origin::Kafka(topic) => {
            let settings = settings(options.settings_file.as_ref(), options.settings)?;
            let format = match options.format {
                None | Some(sql::Format::Json) => Format::Json,
                Some(sql::Format::Text) => Format::Text,
                Some(sql::Format::Debezium) => Format::Debezium(options.columns),
            };
            let Topic { servers, name: of } = Topic::of(topic)?;
            let kafka = Kafka::open(name, servers, of).at(topic.span)?;
            let kafka = kafka.settings(settings).at(topic.span)?;
            Box::new(kafka.format(format).once(!follows))
        }
        Origin::Http => {
            let span = options
                .listen
                .as_ref()
                .map_or(source.name.span, |of| of.span);
            if once {
                let what = "what is posted has no end: it cannot be read once";
                return Err(Fault::said(what, span));
            }
            let Some(listen) = &options.listen else {
                let opened = listeners.without_address(&name, span)?;
                let invitation = format!("{name} may be posted to /v1/streams/{name}");
                return Ok((opened, Some(invitation)));
            };
            let listener = listeners.at(listen, options.token_file.as_ref())?;
            let address = listener.address();
            let source = listener.source(&*name).at(listen.span)?;
            let invitation = format!("{name} may be posted to http://{address}/v1/streams/{name}");
            return Ok((Box::new(source), Some(invitation)));
        }
    };
    Ok((source, None))
}

impl Listeners {
    /// Those of a server, which takes in what is posted to no address of its own.
    #[cfg(feature = "http")]
    pub(super) fn with(intake: HttpIntake) -> Self {
        Self {
            listeners: Vec::new(),
            intake: Some(intake),
        }
    }

    /// A source that names no address.
    fn without_address(&self, name: &str, span: Span) -> Result<Box<dyn Source>, Fault> {
        #[cfg(feature = "http")]
        if let Some(intake) = &self.intake {
            return Ok(Box::new(intake.source(name).at(span)?));
        }
        let what = format!("nobody listens for what is posted to {name}");
        let help = "WITH (LISTEN = '127.0.0.1:7070'); or have the script served: perennial serve";
        Err(Diagnostic::new(what, span).help(help).into())
    }

    /// The listener at an address; sources that name one share it.
    fn at(
        &mut self,
        listen: &Spanned<&Arc<str>>,
        token_file: Option<&Spanned<&Arc<str>>>,
    ) -> Result<&HttpListener, Fault> {
        if let Some(at) = self
            .listeners
            .iter()
            .position(|(address, _)| address == listen.of)
        {
            if let Some(file) = token_file {
                let what = format!("{} is listened at already, with its token", listen.of);
                return Err(Diagnostic::new(what, file.span)
                    .help("give TOKEN_FILE where the address is named first")
                    .into());
            }
            return Ok(&self.listeners[at].1);
        }
        let token = match token_file {
            Some(file) => {
                let secret = read(file)?;
                Some(BearerToken::new(&secret).at(file.span)?)
            }
            None => None,
        };
        let listener = HttpListener::bind(listen.of, token, HttpLimits::default());
        let listener = listener.at(listen.span)?;
        self.listeners.push((listen.of.clone(), listener));
        Ok(&self.listeners[self.listeners.len() - 1].1)
    }
}

/// The sink that a statement names. Delivered is under its place, so that a script that gives it
/// another name goes on where it was.
pub(super) fn sink(sink: &CreateSink) -> Result<Box<dyn Sink>, Fault> {
    let into = &sink.into;
    let mut secret_file = None;
    let mut settings_file = None;
    let mut transactional_id = None;
    let mut dead_letters = None;
    let mut given = Vec::new();
    for Spanned { of, span } in &sink.options {
        match of {
            SinkOption::SecretFile(path) => secret_file = Some(Spanned::new(path, *span)),
            SinkOption::SettingsFile(path) => settings_file = Some(Spanned::new(path, *span)),
            SinkOption::DeadLetters(path) => dead_letters = Some(Spanned::new(path, *span)),
            SinkOption::TransactionalId(id) => transactional_id = Some((id, *span)),
            SinkOption::Setting(name, value) => given.push((name.to_string(), value.to_string())),
            _ => {}
        }
    }
    if into.of.starts_with("http://") || into.of.starts_with("https://") {
        let mut webhook = Webhook::open(&into.of).at(into.span)?;
        if let Some(file) = &secret_file {
            webhook = webhook.secret(&read(file)?).at(file.span)?;
        }
        return with_dead_letters(webhook, dead_letters.as_ref());
    }
    if !into.of.starts_with(SCHEME) {
        return Ok(Box::new(JsonLinesSink::open(&*into.of).at(into.span)?));
    }
    let Topic { servers, name } = Topic::of(into)?;
    let settings = settings(settings_file.as_ref(), given)?;
    let mut topic = KafkaSink::open(servers, name).at(into.span)?;
    topic = topic.settings(settings).at(into.span)?;
    if let Some((id, span)) = transactional_id {
        topic = topic.transactional(&**id).at(span)?;
    }
    with_dead_letters(topic, dead_letters.as_ref())
}

/// The sink, with a file for what it refuses for good where one is named.
fn with_dead_letters(
    sink: impl Sink,
    file: Option<&Spanned<&Arc<str>>>,
) -> Result<Box<dyn Sink>, Fault> {
    let Some(file) = file else {
        return Ok(Box::new(sink));
    };
    let letters = DeadLetters::open(&**file.of).at(file.span)?;
    Ok(Box::new(letters.of(sink)))
}

const SCHEME: &str = "kafka://";

/// A topic of a cluster.
struct Topic<'a> {
    servers: &'a str,
    name: &'a str,
}

impl<'a> Topic<'a> {
    fn of(text: &'a Spanned<Arc<str>>) -> Result<Self, Fault> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let place = text
            .of
            .strip_prefix(SCHEME)
            .and_then(|rest| rest.split_once('/'));
        match place {
            Some((servers, name))
                if !servers.is_empty()
                    && (1..250).contains(&name.len())
                    && name.chars().all(is_allowed) =>
            {
                Ok(Self { servers, name })
            }
            Some((_, name)) if name.contains('?') => Err(Diagnostic::new(
                "options of a topic do not stand in its name here",
                text.span,
            )
            .help("WITH (FORMAT = …, …)")
            .into()),
            _ => Err(
                Diagnostic::new(format!("'{}' names no topic", text.of), text.span)
                    .help("'kafka://host:port/topic', several servers with commas between")
                    .into(),
            ),
        }
    }
}

/// Settings of a Kafka client: those of a file, then those that were given.
fn settings(
    file: Option<&Spanned<&Arc<str>>>,
    given: Vec<(String, String)>,
) -> Result<Vec<(String, String)>, Fault> {
    let mut settings = Vec::new();
    if let Some(file) = file {
        for (number, line) in (1..).zip(read(file)?.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // The line is not shown: it may hold a password.
            let Some((name, value)) = line.split_once('=') else {
                let what = format!("{}:{number}: not a setting", file.of);
                return Err(Diagnostic::new(what, file.span)
                    .help("write name=value, such as security.protocol=SASL_SSL")
                    .into());
            };
            settings.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    settings.extend(given);
    Ok(settings)
}

/// A file of secrets or settings.
fn read(file: &Spanned<&Arc<str>>) -> Result<String, Fault> {
    let path = Path::new(&**file.of);
    std::fs::read_to_string(path).map_err(|error| {
        let what = format!("cannot read {}: {error}", path.display());
        Fault::said(what, file.span)
    })
}
