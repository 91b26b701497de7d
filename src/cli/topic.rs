//! Which topic does `kafka://SERVERS/TOPIC?…` name, and how is it read or written?

use std::fmt;
use std::path::Path;

use perennial::connectors::{ColumnNames, Format, JsonLinesSink, Kafka, KafkaSink, Sink};

use super::failure::Failure;

/// What names of topics begin with.
pub(crate) const SCHEME: &str = "kafka://";
const FORM: &str =
    "kafka://HOST:PORT/TOPIC, or with several servers kafka://HOST:PORT,HOST:PORT/TOPIC";

/// Settings of Kafka clients, names and values.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings(Vec<(String, String)>);

impl fmt::Debug for Settings {
    // Values may be passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

/// A topic of a Kafka-compatible cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topic {
    /// As it was typed.
    pub(crate) typed: String,
    /// `host:port`, with commas between.
    pub(crate) servers: String,
    pub(crate) name: String,
    pub(crate) format: Format,
}

impl Topic {
    /// Reads what was typed; none if it names no topic.
    ///
    /// # Errors
    /// [`Failure::Usage`] if it begins like one and cannot be read.
    pub(crate) fn of(typed: &str) -> Result<Option<Self>, Failure> {
        let Some((servers, name, query)) = place(typed)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            typed: typed.to_owned(),
            servers: servers.to_owned(),
            name: name.to_owned(),
            format: format(typed, query)?,
        }))
    }

    /// The topic as a source.
    ///
    /// # Errors
    /// A setting that cannot be.
    pub(crate) fn source(
        &self,
        name: &str,
        settings: &Settings,
        is_once: bool,
    ) -> Result<Kafka, Failure> {
        let source = Kafka::open(name, &*self.servers, &*self.name)?
            .settings(settings.0.iter().cloned())?
            .format(self.format.clone())
            .once(is_once);
        Ok(source)
    }
}

/// Servers, topic and what stands behind the question mark; none if no topic is named.
fn place(typed: &str) -> Result<Option<(&str, &str, &str)>, Failure> {
    let Some(rest) = typed.strip_prefix(SCHEME) else {
        return Ok(None);
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    match place.split_once('/') {
        Some((servers, name)) if !servers.is_empty() && is_topic(name) => {
            Ok(Some((servers, name, query)))
        }
        _ => Err(Failure::usage(format!("{typed:?} names no topic"), FORM)),
    }
}

/// Where answers go: a topic, or a file of JSON lines.
///
/// # Errors
/// A topic or setting that cannot be, a file that cannot be written.
pub(crate) fn sink(typed: &str, settings: &Settings) -> Result<Box<dyn Sink>, Failure> {
    let Some((servers, name, query)) = place(typed)? else {
        return Ok(Box::new(JsonLinesSink::open(typed)?));
    };
    let mut sink = KafkaSink::open(servers, name)?.settings(settings.0.iter().cloned())?;
    for (parameter, value) in form_urlencoded::parse(query.as_bytes()) {
        if parameter != "transactional_id" {
            return Err(Failure::usage(
                format!("{typed:?}: unknown parameter {parameter:?}"),
                "there is transactional_id, which makes each epoch a transaction",
            ));
        }
        sink = sink.transactional(value)?;
    }
    Ok(Box::new(sink))
}

fn is_topic(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 249 && name.chars().all(is_allowed)
}

/// How the messages are read: `format`, and the columns of a table.
fn format(typed: &str, query: &str) -> Result<Format, Failure> {
    let mut format = None;
    let mut columns = ColumnNames::default();
    let mut has_columns = false;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = value.into_owned();
        match &*name {
            "format" => {
                format = Some(value);
                continue;
            }
            field if columns.set(field, value) => {}
            _ => {
                let hint =
                    "there are format, and with format=debezium key, text, title and updated_at";
                let what = format!("{typed:?}: unknown parameter {name:?}");
                return Err(Failure::usage(what, hint));
            }
        }
        has_columns = true;
    }
    match format.as_deref() {
        Some("debezium") => Ok(Format::Debezium(columns)),
        _ if has_columns => Err(Failure::usage(
            format!("{typed:?} names columns, which only change events of a table have"),
            "add format=debezium, or leave them out",
        )),
        None | Some("json") => Ok(Format::Json),
        Some("text") => Ok(Format::Text),
        Some(other) => Err(Failure::usage(
            format!("{typed:?}: unknown format {other:?}"),
            "there are json (by default), text and debezium",
        )),
    }
}

/// Settings of Kafka clients: those of a file, then those that were typed as NAME=VALUE.
///
/// # Errors
/// A file that cannot be read, or what is no setting.
pub(crate) fn settings(file: Option<&Path>, typed: &[String]) -> Result<Settings, Failure> {
    let mut settings = Vec::new();
    if let Some(file) = file {
        let action = format!("read {}", file.display());
        let text = std::fs::read_to_string(file).map_err(Failure::io(action))?;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // The line is not shown: it may hold a password.
            let place = format!("{}:{number}", file.display());
            settings.push(setting(line, &place)?);
        }
    }
    for typed in typed {
        settings.push(setting(typed, "--kafka")?);
    }
    Ok(Settings(settings))
}

fn setting(text: &str, place: &str) -> Result<(String, String), Failure> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err(Failure::usage(
            format!("{place}: not a setting"),
            "write NAME=VALUE, such as security.protocol=SASL_SSL",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(typed: &str) -> Topic {
        Topic::of(typed).expect("sound").expect("a topic")
    }

    #[test]
    fn a_topic_is_read_with_its_servers_and_format() {
        assert_eq!(Topic::of("notes").expect("a path"), None);
        let plain = topic("kafka://a:1,b:2/docs.v1");
        assert_eq!((&*plain.servers, &*plain.name), ("a:1,b:2", "docs.v1"));
        assert_eq!(plain.format, Format::Json);
        assert_eq!(topic("kafka://a:1/d?format=text").format, Format::Text);
        let Format::Debezium(columns) =
            topic("kafka://a:1/d?format=debezium&key=id&text=body%20text").format
        else {
            panic!("change events");
        };
        assert_eq!((&*columns.key, &*columns.text), ("id", "body text"));
    }

    #[test]
    fn what_names_no_topic_is_said() {
        for wrong in [
            "kafka://a:1",
            "kafka:///docs",
            "kafka://a:1/do cs",
            "kafka://a:1/d?format=avro",
            "kafka://a:1/d?key=id",
            "kafka://a:1/d?formt=text",
        ] {
            assert!(Topic::of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn settings_come_from_a_file_and_the_command_line() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("client.properties");
        std::fs::write(&file, "# a comment\n\nsasl.password = a=b\n").expect("writable");
        let found = settings(Some(&file), &["x=y".to_owned()]).expect("sound");
        let expected = [("sasl.password", "a=b"), ("x", "y")];
        let expected = expected.map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(found.0, expected);
        assert!(!format!("{found:?}").contains("a=b"));
        std::fs::write(&file, "hunter2\n").expect("writable");
        let error = settings(Some(&file), &[])
            .expect_err("no setting")
            .to_string();
        assert!(
            error.contains(":1") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
