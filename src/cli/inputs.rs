//! From arguments to sources: which are paths, which is the question, and what reads them.

use std::io;
use std::path::{Path, PathBuf};

use crossbeam_channel::{Receiver, Sender, bounded};
use perennial::connectors::{
    ColumnNames, DeadLetters, Folder, HttpListener, JsonLines, Kafka, Sink, Source, Table,
    Watching, glob_list,
};

use super::args::WatchArgs;
use super::asked::Asked;
use super::failure::Failure;
use super::joined::Joined;
use super::left_behind::LeftBehind;
use super::listen::{self, Listen};
use super::topic::{self, Settings, Topic};
use super::unposted::Unposted;

/// Name of the stream of documents.
pub(crate) const DOCUMENTS: &str = "documents";
/// Name of the stream of questions.
pub(crate) const QUESTIONS: &str = "questions";

/// Endings of the names of tables.
const TABLES: [&str; 5] = ["csv", "tsv", "parquet", "parq", "pq"];

/// Of those that are text.
const TEXT_TABLES: [&str; 2] = ["csv", "tsv"];

/// What is asked, of what.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Inputs {
    folders: Vec<PathBuf>,
    /// Files of JSON lines; `-` is standard input.
    files: Vec<PathBuf>,
    tables: Vec<PathBuf>,
    topics: Vec<Topic>,
    questions: Vec<String>,
    contexts: Option<Contexts>,
    /// Where documents may be posted.
    listen: Option<Listen>,
    /// Of clients of Kafka clusters.
    settings: Settings,
    /// Files, topics and URLs that answers go to.
    sinks: Vec<String>,
    /// Of those that are URLs.
    webhook_secret: Option<PathBuf>,
    /// Where rows go that sinks refuse for good.
    dead_letters: Option<PathBuf>,
    /// Of tables, and of fields of JSON lines.
    columns: ColumnNames,
    /// Of tables that are text.
    delimiter: Option<String>,
    encoding: Option<String>,
    /// Patterns of what is a document of folders, and what is none.
    include: Vec<String>,
    exclude: Vec<String>,
    obeys_ignore_files: bool,
    believes_empty: bool,
    is_once: bool,
}

/// Where further questions come from.
#[derive(Debug, PartialEq, Eq)]
enum Contexts {
    /// A file of JSON lines; `-` is standard input.
    File(PathBuf),
    Topic(Topic),
    /// They are posted.
    Posted,
}

/// Lets the first epoch begin; see [`Inputs::questions`].
pub(crate) struct Gate(Sender<()>);

impl Gate {
    /// Opens it.
    pub(crate) fn open(self) {
        // Nobody waits only if the engine has stopped, which is noticed elsewhere.
        let _ = self.0.send(());
    }
}

impl Inputs {
    /// Tells paths from questions.
    ///
    /// # Errors
    /// [`Failure::Usage`] where a question or a path is missing.
    pub(crate) fn of(args: &WatchArgs) -> Result<Self, Failure> {
        let mut paths: Vec<&str> = args.paths_and_question.iter().map(String::as_str).collect();
        let mut questions = Vec::new();
        let asks_elsewhere = !args.questions.is_empty() || args.contexts.is_some();
        if let Some(last) = paths.last().copied() {
            let is_question = if asks_elsewhere {
                (paths.len() > 1 || args.listen.is_some()) && reads_like_a_question(last)
            } else {
                true
            };
            let is_path = |text: &str| Path::new(text).exists();
            if is_question && !asks_elsewhere && is_path(last) && paths.len() > 1 {
                // It would answer "wiki" from `notes`.
                let hint = format!("perennial watch {} \"What is …?\"", paths.join(" "));
                return Err(Failure::usage("the question is missing", hint));
            }
            if is_question {
                paths.pop();
                questions.push(last.to_owned());
            }
        }
        questions.extend(args.questions.iter().cloned());
        if questions.is_empty() && !asks_elsewhere {
            let hint = "put one in quotes behind the address, or take those that are posted: \
                        --contexts http";
            return Err(Failure::usage("the question is missing", hint));
        }
        if let [only] = questions.as_slice()
            && paths.is_empty()
            && (args.listen.is_none() || Path::new(only).exists())
        {
            return Err(if Path::new(only).exists() {
                let hint = format!("perennial watch {only} \"What is …?\"");
                Failure::usage("the question is missing", hint)
            } else {
                let hint = format!("perennial watch FOLDER \"{only}\"");
                Failure::usage("the folder of documents is missing", hint)
            });
        }
        if questions.iter().any(|question| question.trim().is_empty()) {
            return Err(Failure::usage(
                "a question is empty",
                "write it in quotes, after the folder",
            ));
        }
        let places: Vec<_> = args.sinks.iter().map(std::path::absolute).collect();
        for (at, sink) in args.sinks.iter().enumerate() {
            let is_same = |place: &io::Result<PathBuf>| matches!((place, &places[at]), (Ok(one), Ok(other)) if one == other);
            if places[..at].iter().any(is_same) {
                let what = format!("--sink {sink} is given twice");
                return Err(Failure::usage(what, "leave one of them out"));
            }
        }
        if args.once && args.listen.is_some() {
            return Err(Failure::usage(
                "--once with --listen: what is posted has no end",
                "leave one of them out",
            ));
        }
        let mut inputs = Self {
            folders: Vec::new(),
            files: Vec::new(),
            tables: Vec::new(),
            topics: Vec::new(),
            questions,
            contexts: None,
            listen: args.listen.as_ref().map(|address| Listen {
                address: address.clone(),
                token_file: args.listen_token_file.clone(),
            }),
            settings: topic::settings(args.kafka_file.as_deref(), &args.kafka)?,
            sinks: args.sinks.clone(),
            webhook_secret: args.webhook_secret_file.clone(),
            dead_letters: args.dead_letters.clone(),
            columns: columns(args.columns.as_deref())?,
            delimiter: args.delimiter.clone(),
            encoding: args.encoding.clone(),
            include: args
                .include
                .iter()
                .flat_map(|list| glob_list(list))
                .collect(),
            exclude: args
                .exclude
                .iter()
                .flat_map(|list| glob_list(list))
                .collect(),
            obeys_ignore_files: !args.no_ignore,
            believes_empty: args.believe_empty,
            is_once: args.once,
        };
        for path in paths {
            if let Some(topic) = Topic::of(path)? {
                inputs.topics.push(topic);
            } else if path == "-" || is_named(Path::new(path), &["jsonl", "ndjson"]) {
                inputs.files.push(path.into());
            } else if is_named(Path::new(path), &TABLES) {
                inputs.tables.push(path.into());
            } else if path.contains(' ') && reads_like_a_question(path) {
                let what = format!("{path:?} reads like a question, and stands where a path does");
                let hint = "the last argument is the question; give further ones with -q \"…\"";
                return Err(Failure::usage(what, hint));
            } else {
                inputs.folders.push(path.into());
            }
        }
        inputs.check_effect(args)?;
        let has_patterns = !args.include.is_empty() || !args.exclude.is_empty();
        if inputs.folders.is_empty() && (has_patterns || args.no_ignore) {
            return Err(Failure::usage(
                "--include, --exclude and --no-ignore without a folder",
                "they say which files of a folder are read",
            ));
        }
        if let Some(contexts) = &args.contexts {
            inputs.contexts = Some(match Topic::of(contexts)? {
                Some(topic) => Contexts::Topic(topic),
                None if contexts == "http" && args.listen.is_none() => {
                    let hint = "add --listen 127.0.0.1:7070, or write ./http for the file";
                    return Err(Failure::usage("--contexts http without --listen", hint));
                }
                None if contexts == "http" => Contexts::Posted,
                None => Contexts::File(contexts.into()),
            });
        }
        let stdin = Path::new("-");
        let is_stdin = |path: &&PathBuf| path.as_path() == stdin;
        let mut n_stdin = inputs.files.iter().filter(is_stdin).count();
        if let Some(Contexts::File(path)) = &inputs.contexts {
            n_stdin += usize::from(is_stdin(&path));
        }
        if n_stdin > 1 {
            return Err(Failure::usage(
                "standard input is named twice",
                "it can carry documents or questions, not both",
            ));
        }
        Ok(inputs)
    }

    /// Refuses what is said of something that is not there: it would have no effect.
    fn check_effect(&self, args: &WatchArgs) -> Result<(), Failure> {
        let is_topic = |typed: &String| typed.starts_with(topic::SCHEME);
        let has_topics =
            !self.topics.is_empty() || args.contexts.iter().chain(&args.sinks).any(is_topic);
        let says_of_topics = !args.kafka.is_empty() || args.kafka_file.is_some();
        let mut tables = self.tables.iter();
        let has_text_tables = tables.any(|table| is_named(table, &TEXT_TABLES));
        let has_files =
            !self.folders.is_empty() || !self.files.is_empty() || args.contexts.is_some();
        let without = [
            (
                args.believe_empty && !has_files,
                "--believe-empty without a folder or a .jsonl file",
                "it says what becomes of their documents where nothing is in them any more",
            ),
            (
                args.columns.is_some() && self.tables.is_empty() && self.files.is_empty(),
                "--columns without a table or a .jsonl file",
                "it says which columns of tables, and fields of JSON lines, make a document",
            ),
            (
                (args.delimiter.is_some() || args.encoding.is_some()) && !has_text_tables,
                "--delimiter and --encoding without a .csv or .tsv table",
                "they say how such tables are written",
            ),
            (
                says_of_topics && !has_topics,
                "--kafka and --kafka-file without a topic",
                "they are settings of clients that read or write kafka://SERVERS/TOPIC",
            ),
            (
                args.webhook_secret_file.is_some()
                    && !args.sinks.iter().any(|sink| listen::is_url(sink)),
                "--webhook-secret-file without a URL as --sink",
                "what is posted is signed; files and topics are not",
            ),
            (
                args.dead_letters.is_some() && !args.sinks.iter().any(|sink| may_refuse(sink)),
                "--dead-letters without a URL or topic as --sink",
                "a file refuses nothing",
            ),
        ];
        match without.into_iter().find(|(is_idle, ..)| *is_idle) {
            Some((_, what, hint)) => Err(Failure::usage(what, hint)),
            None => Ok(()),
        }
    }

    /// The same, read once and not watched.
    pub(crate) fn once(mut self) -> Self {
        self.is_once = true;
        self
    }

    /// What the paths are, in words.
    pub(crate) fn paths(&self) -> String {
        let paths = self.folders.iter().chain(&self.files).chain(&self.tables);
        let paths = paths.map(|path| path.display().to_string());
        let topics = self.topics.iter().map(|topic| topic.typed.clone());
        let posted = self.listen.iter().map(|_| "what is posted".to_owned());
        let all = paths.chain(topics).chain(posted);
        all.collect::<Vec<_>>().join(", ")
    }

    /// Where answers go besides the screen.
    ///
    /// # Errors
    /// What [`topic::sink`] reports.
    pub(crate) fn sinks(&self) -> Result<Vec<Box<dyn Sink>>, Failure> {
        let secret = self.webhook_secret.as_deref();
        let letters = self.dead_letters.as_ref();
        let letters = letters.map(DeadLetters::open).transpose()?;
        let sink = |typed: &String| -> Result<Box<dyn Sink>, Failure> {
            let opened = match listen::is_url(typed) {
                true => listen::webhook(typed, secret),
                false => topic::sink(typed, &self.settings),
            }?;
            Ok(match letters.as_ref().filter(|_| may_refuse(typed)) {
                Some(letters) => Box::new(letters.of(opened)),
                None => opened,
            })
        };
        self.sinks.iter().map(sink).collect()
    }

    /// Where records may be posted, listened to from now on.
    ///
    /// # Errors
    /// What [`Listen::open`] reports.
    pub(crate) fn listener(&self) -> Result<Option<HttpListener>, Failure> {
        self.listen.as_ref().map(Listen::open).transpose()
    }

    /// The streams that records may be posted to.
    pub(crate) fn posted(&self) -> Vec<&'static str> {
        let documents = self.listen.is_some().then_some(DOCUMENTS);
        let is_asked = self.contexts == Some(Contexts::Posted);
        let questions = is_asked.then_some(QUESTIONS);
        documents.into_iter().chain(questions).collect()
    }

    /// The source of documents; those that are posted, where there is a listener for them.
    ///
    /// # Errors
    /// What [`Folder::open`], [`JsonLines::open`], [`Table::open`] and [`Topic::source`] report.
    pub(crate) fn documents(
        &self,
        listener: Option<&HttpListener>,
    ) -> Result<Box<dyn Source>, Failure> {
        let mut joined = Joined::new(DOCUMENTS);
        if !self.folders.is_empty() {
            let watching = match self.is_once {
                true => Watching::Once,
                false => Watching::Auto,
            };
            let folder = Folder::open(DOCUMENTS, &self.folders)?
                .include(&self.include)?
                .exclude(&self.exclude)?
                .ignore_files(self.obeys_ignore_files)
                .believe_empty(self.believes_empty)
                .watching(watching);
            joined = joined.with(folder, None);
        }
        let n_others = self.files.len() + self.tables.len() + self.topics.len();
        let is_alone = self.folders.is_empty() && n_others == 1 && self.listen.is_none();
        for file in &self.files {
            let prefix = (!is_alone).then(|| format!("{}#", file.display()));
            let lines = self.lines(DOCUMENTS, file)?.columns(self.columns.clone());
            joined = joined.with(lines, prefix);
        }
        for table in &self.tables {
            let prefix = (!is_alone).then(|| format!("{}#", table.display()));
            let mut source = Table::open(DOCUMENTS, table)?.columns(self.columns.clone());
            if is_named(table, &TEXT_TABLES) {
                if let Some(delimiter) = &self.delimiter {
                    source = source.delimited_by(delimiter)?;
                }
                if let Some(encoding) = &self.encoding {
                    source = source.encoding(encoding)?;
                }
            }
            joined = joined.with(source.follow(!self.is_once), prefix);
        }
        for topic in &self.topics {
            let namesakes = self.topics.iter().filter(|other| other.name == topic.name);
            let prefix = (!is_alone).then(|| match namesakes.count() {
                1 => format!("{}#", topic.name),
                _ => format!("{}/{}#", topic.servers, topic.name),
            });
            joined = joined.with(self.topic(DOCUMENTS, topic)?, prefix);
        }
        if let Some(listener) = listener {
            joined = joined.with(listener.source(DOCUMENTS)?, Some(listen::PREFIX.to_owned()));
        }
        let prefixes = joined.prefixes();
        let joined = LeftBehind::over(joined.boxed(), prefixes);
        Ok(match listener {
            Some(_) => joined,
            None => Unposted::over(joined),
        })
    }

    /// The source of questions, and the gate that it waits at: an epoch closes only when
    /// every source has given what it had, so whoever subscribes before opening the gate
    /// misses nothing.
    ///
    /// # Errors
    /// What [`JsonLines::open`] and [`Topic::source`] report.
    pub(crate) fn questions(
        &self,
        listener: Option<&HttpListener>,
    ) -> Result<(Box<dyn Source>, Gate), Failure> {
        let (sender, gate): (Sender<()>, Receiver<()>) = bounded(1);
        let asked = Asked::new(QUESTIONS, self.questions.clone(), gate);
        let mut joined = match self.questions.is_empty() {
            true => Joined::new(QUESTIONS).with_empty(asked),
            false => Joined::new(QUESTIONS).with(asked, None),
        };
        match &self.contexts {
            Some(Contexts::File(file)) => joined = joined.with(self.lines(QUESTIONS, file)?, None),
            Some(Contexts::Topic(topic)) => {
                joined = joined.with(self.topic(QUESTIONS, topic)?, None);
            }
            Some(Contexts::Posted) => {
                if let Some(listener) = listener {
                    let prefix = Some(listen::PREFIX.to_owned());
                    joined = joined.with(listener.source(QUESTIONS)?, prefix);
                }
            }
            None => {}
        }
        let joined = match self.contexts {
            Some(Contexts::Posted) => joined.boxed(),
            _ => Unposted::over(joined.boxed()),
        };
        Ok((joined, Gate(sender)))
    }

    fn lines(&self, name: &str, file: &Path) -> Result<JsonLines, Failure> {
        if file == Path::new("-") {
            return Ok(JsonLines::stdin(name)?);
        }
        Ok(JsonLines::open(name, file)?
            .follow(!self.is_once)
            .believe_empty(self.believes_empty))
    }

    fn topic(&self, name: &str, topic: &Topic) -> Result<Kafka, Failure> {
        topic.source(name, &self.settings, self.is_once)
    }
}

impl Inputs {
    /// One question over one folder.
    pub(crate) fn folder(folder: PathBuf, question: &str) -> Self {
        Self {
            folders: vec![folder],
            files: Vec::new(),
            tables: Vec::new(),
            topics: Vec::new(),
            questions: vec![question.to_owned()],
            contexts: None,
            listen: None,
            settings: Settings::default(),
            sinks: Vec::new(),
            webhook_secret: None,
            dead_letters: None,
            columns: ColumnNames::default(),
            delimiter: None,
            encoding: None,
            include: Vec::new(),
            exclude: Vec::new(),
            obeys_ignore_files: true,
            believes_empty: false,
            is_once: false,
        }
    }
}

/// Whether a file's name ends in one of these, perhaps packed.
fn is_named(path: &Path, endings: &[&str]) -> bool {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase());
    let name = name.unwrap_or_default();
    let bare = [".gz", ".zst"]
        .iter()
        .find_map(|packed| name.strip_suffix(packed));
    let ending = bare
        .unwrap_or(&name)
        .rsplit_once('.')
        .map(|(_, ending)| ending);
    ending.is_some_and(|ending| endings.contains(&ending)) && !path.is_dir()
}

/// Which columns of tables, and fields of JSON lines, make a record: `FIELD=COLUMN`, with commas between.
fn columns(typed: Option<&str>) -> Result<ColumnNames, Failure> {
    let mut columns = ColumnNames::default();
    for pair in typed.iter().flat_map(|typed| typed.split(',')) {
        let is_set = match pair.split_once('=') {
            Some((field, column)) => columns.set(field.trim(), column.trim()),
            None => false,
        };
        if !is_set {
            return Err(Failure::usage(
                format!("--columns: {pair:?} names no column"),
                "write FIELD=COLUMN with commas between; the fields are key, text, title, updated_at",
            ));
        }
    }
    Ok(columns)
}

fn reads_like_a_question(text: &str) -> bool {
    let looks = text.contains(char::is_whitespace) || text.ends_with('?');
    looks && !Path::new(text).exists()
}

/// Whether a sink may refuse for good what it is given.
fn may_refuse(typed: &str) -> bool {
    listen::is_url(typed) || typed.starts_with(topic::SCHEME)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::args::{Cli, Command};
    use super::*;

    fn inputs(words: &[&str]) -> Result<Inputs, Failure> {
        let words = ["perennial", "watch"].iter().chain(words);
        let Command::Watch(args) = Cli::parse_from(words).command else {
            unreachable!("`watch` was parsed");
        };
        Inputs::of(&args)
    }

    #[test]
    fn the_last_word_is_the_question() {
        let both = inputs(&["notes", "d.jsonl", "Who?"]).expect("sound");
        assert_eq!(both.folders, [PathBuf::from("notes")]);
        assert_eq!(both.files, [PathBuf::from("d.jsonl")]);
        assert_eq!(both.questions, ["Who?"]);
        let topic = inputs(&["kafka://a:1/docs", "Who?"]).expect("sound");
        let table =
            inputs(&["faq.csv.gz", "Who?", "--columns", "key=id,text=body"]).expect("sound");
        assert_eq!(table.tables, [PathBuf::from("faq.csv.gz")]);
        assert_eq!((&*table.columns.key, &*table.columns.text), ("id", "body"));
        assert!(inputs(&["faq.csv", "Who?", "--columns", "id"]).is_err());
        let lines = inputs(&["faq.jsonl", "Who?", "--columns", "title=headline"]).expect("sound");
        assert_eq!(lines.columns.title.as_deref(), Some("headline"));
        let parquet = inputs(&["faq.parquet", "Who?"]).expect("sound");
        assert_eq!(parquet.tables, [PathBuf::from("faq.parquet")]);
        assert_eq!(topic.topics[0].name, "docs");
        assert_eq!(topic.paths(), "kafka://a:1/docs");
    }

    #[test]
    fn patterns_are_of_folders() {
        let given = [
            "notes",
            "Who?",
            "--include",
            "*.rs, *.{c,h}",
            "--include",
            "docs",
        ];
        let both = inputs(&given).expect("sound");
        assert_eq!(both.include, ["*.rs", "*.{c,h}", "docs"]);
        assert!(both.obeys_ignore_files && both.exclude.is_empty());
        let all = inputs(&["notes", "Who?", "--no-ignore", "--exclude", "a"]).expect("sound");
        assert!(!all.obeys_ignore_files);
        assert_eq!(all.exclude, ["a"]);
        let refused = inputs(&["docs.jsonl", "Who?", "--exclude", "a"]).expect_err("no folder");
        assert!(refused.to_string().contains("without a folder"));
    }

    #[test]
    fn what_is_said_of_something_that_is_not_there_is_refused() {
        let says = |words: &[&str]| inputs(words).expect_err("refused").to_string();
        let notes = ["notes", "Who?"];
        let with = |words: &[&str]| says(&[&notes, words].concat());
        assert!(with(&["--columns", "key=id"]).contains("--columns"));
        assert!(with(&["--kafka", "debug=all"]).contains("--kafka"));
        for said in [["--delimiter", ";"], ["--encoding", "latin1"]] {
            let words = [&["d.parquet", "Who?"][..], &said].concat();
            assert!(says(&words).contains("without a .csv"), "{said:?}");
        }
        assert!(says(&["d.csv", "Who?", "--believe-empty"]).contains("--believe-empty"));
        let both = inputs(&["d.csv", "d.jsonl", "Who?", "--believe-empty"]);
        assert!(both.expect("a file").believes_empty);
        let secret = ["--sink", "a.jsonl", "--webhook-secret-file", "s"];
        assert!(with(&secret).contains("--webhook-secret-file"));
        // A topic of answers or questions has settings, too.
        for topic in ["--sink", "--contexts"] {
            let words = [topic, "kafka://a:1/t", "--kafka", "client.id=x"];
            assert!(inputs(&[&notes[..], &words].concat()).is_ok(), "{topic}");
        }
    }

    #[test]
    fn a_path_is_no_question_and_a_sink_is_named_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().to_str().expect("UTF-8");
        let refused = inputs(&["notes", path]).expect_err("no question");
        assert_eq!(refused.to_string(), "the question is missing");
        assert!(inputs(&["notes", "Who?", "--sink", "a.jsonl", "--sink", "b.jsonl"]).is_ok());
        let twice = inputs(&["notes", "Who?", "--sink", "a.jsonl", "--sink", "./a.jsonl"]);
        let said = twice.expect_err("one file").to_string();
        assert_eq!(said, "--sink ./a.jsonl is given twice");
    }

    #[test]
    fn with_questions_elsewhere_it_must_read_like_one() {
        let options = ["-q", "Why?"];
        let of = |words: &[&str]| inputs(&[words, &options].concat()).expect("sound");
        assert_eq!(of(&["notes", "wiki"]).questions, ["Why?"]);
        assert_eq!(
            of(&["notes", "Who is it?"]).questions,
            ["Who is it?", "Why?"]
        );
        assert_eq!(of(&["notes"]).questions, ["Why?"]);
        assert_eq!(of(&["notes"]).folders, [PathBuf::from("notes")]);
    }

    #[test]
    fn with_a_listener_paths_may_be_missing_and_questions_posted() {
        let listen = ["--listen", "127.0.0.1:0"];
        let of = |words: &[&str]| inputs(&[&listen, words].concat());
        let asked = of(&["Who is it?"]).expect("sound");
        assert_eq!(asked.questions, ["Who is it?"]);
        assert_eq!(asked.posted(), [DOCUMENTS]);
        let both = of(&["notes", "Who?", "--contexts", "http"]).expect("sound");
        assert_eq!(both.folders, [PathBuf::from("notes")]);
        assert_eq!(both.posted(), [DOCUMENTS, QUESTIONS]);
        assert!(
            of(&["--contexts", "http"])
                .expect("sound")
                .questions
                .is_empty()
        );
        let further = of(&["-q", "Why?", "Who is it?"]).expect("sound");
        assert_eq!(further.questions, ["Who is it?", "Why?"]);
        let says = |words: &[&str]| of(words).expect_err("refused").to_string();
        assert!(says(&[]).contains("question"));
        assert!(says(&["."]).contains("question"));
        assert!(says(&["Who?", "--once"]).contains("--once"));
        let alone = inputs(&["notes", "Who?", "--contexts", "http"]).expect_err("refused");
        assert!(alone.to_string().contains("--listen"));
    }

    #[test]
    fn what_is_missing_is_said() {
        let says = |words: &[&str]| inputs(words).expect_err("refused").to_string();
        assert!(says(&["Who is it?"]).contains("folder"));
        assert!(says(&["."]).contains("question"));
        assert!(says(&["notes", " "]).contains("empty"));
        let twice = ["-", "Who?", "--contexts", "-"];
        assert!(says(&twice).contains("standard input"));
    }
}
