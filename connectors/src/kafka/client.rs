//! How is a client of a Kafka cluster set up, and what did it last complain of?
//!
//! Any setting of librdkafka may be given (TLS, SASL, buffers: its `CONFIGURATION.md` lists
//! them), except those on which exactness rests.

use std::sync::{Mutex, PoisonError};

use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

use crate::Error;

/// Settings that are Perennial's own: offsets are kept with the epochs that they brought.
const OURS: [&str; 8] = [
    "bootstrap.servers",
    "metadata.broker.list",
    // A sink's; each producer needs its own.
    "transactional.id",
    "auto.offset.reset",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "enable.idempotence",
];

/// Settings of a client: `defaults`, in whose place the user's `settings` come, and `ours`.
/// Refuses those that cannot be given or do not exist.
pub(crate) fn configure(
    servers: &str,
    defaults: &[(&str, &str)],
    settings: &[(String, String)],
    ours: &[(&str, &str)],
) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers);
    config.set_log_level(RDKafkaLogLevel::Warning);
    config.set("client.id", "perennial");
    let is_given = |name: &str| settings.iter().any(|(given, _)| given == name);
    for (name, value) in defaults {
        // Two names of one setting.
        let is_other_given = *name == "message.timeout.ms" && is_given("delivery.timeout.ms");
        if !is_other_given {
            config.set(*name, *value);
        }
    }
    for (name, value) in settings {
        if OURS.contains(&name.as_str()) {
            return Err(Error::KafkaSetting {
                name: name.clone(),
                reason: "it is set by Perennial itself".to_owned(),
            });
        }
        config.set(name, value);
    }
    for (name, value) in ours {
        config.set(*name, *value);
    }
    config.create_native_config().map_err(refused)?;
    Ok(config)
}

/// A client that cannot be made.
pub(crate) fn refused(error: KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(_, reason, name, value) => Error::KafkaSetting {
            name,
            // It may be a password.
            reason: match value.is_empty() {
                true => reason,
                false => reason.replace(&value, "…"),
            },
        },
        other => Error::Kafka {
            reason: other.to_string(),
        },
    }
}

/// Hears what a client complains of.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    last: Mutex<Option<String>>,
}

impl Complaints {
    /// The last one, once.
    pub(crate) fn take(&self) -> Option<String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.take()
    }
}

impl ClientContext for Complaints {
    fn log(&self, level: RDKafkaLogLevel, _facility: &str, message: &str) {
        let is_grave = !matches!(
            level,
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug
        );
        if is_grave {
            // A line begins with the thread that wrote it.
            let message = message.split_once("]: ").map_or(message, |(_, said)| said);
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some(message.to_owned());
        }
    }

    fn error(&self, _error: KafkaError, reason: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(reason.to_owned());
    }
}

impl ConsumerContext for Complaints {}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(name: &str, value: &str) -> Result<ClientConfig, Error> {
        let settings = [(name.to_owned(), value.to_owned())];
        let (defaults, ours) = ([("group.id", "one")], [("enable.auto.commit", "false")]);
        configure("127.0.0.1:9", &defaults, &settings, &ours)
    }

    #[test]
    fn settings_are_passed_through() {
        let config = configured("socket.timeout.ms", "4000").unwrap();
        assert_eq!(config.get("socket.timeout.ms"), Some("4000"));
        assert_eq!(config.get("group.id"), Some("one"));
        let config = configured("group.id", "another").unwrap();
        assert_eq!(config.get("group.id"), Some("another"));
    }

    #[test]
    fn settings_that_are_wrong_are_named_and_their_values_are_not() {
        for (name, value) in [
            ("no.such.setting", "hunter2"),
            ("socket.timeout.ms", "hunter2"),
            ("auto.offset.reset", "latest"),
        ] {
            let error = configured(name, value).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
