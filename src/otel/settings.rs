//! Does the environment ask for traces, and can they be had as it asks?
//!
//! The variables are those of the
//! [specification](https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).
//! Read here is what decides whether and how anything is sent; the rest (headers, compression, samplers,
//! limits, the times of batches, the resource) the crates of OpenTelemetry read themselves.

use std::time::Duration;

/// Spans that wait, unless told otherwise.
const N_WAITING: usize = 2_048;
/// Most that may be asked for.
const MAX_WAITING: usize = 1 << 16;
/// How long a request to the collector may take, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The only protocol that there is.
const PROTOCOL: &str = "http/protobuf";

/// Where traces go, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceSettings {
    /// The URL that they are posted to; by the environment where there is none.
    pub endpoint: Option<String>,
    /// Most spans that wait to be sent.
    pub n_waiting: usize,
    /// How long one waits at most before those that wait are sent; by the environment where there is none.
    pub delay: Option<Duration>,
    /// How long a request may take, and all its repetitions.
    pub timeout: Duration,
}

/// A setting that cannot be used: which one, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnusableSetting(pub(super) String);

impl TraceSettings {
    /// To a collector at the URL that takes them, such as `http://localhost:4318/v1/traces`.
    pub fn to(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: Some(endpoint.into()),
            n_waiting: N_WAITING,
            delay: None,
            timeout: TIMEOUT,
        }
    }

    /// As the environment asks; nothing where it does not.
    ///
    /// # Errors
    /// What it asks for that there is not.
    pub fn of_environment() -> Result<Option<Self>, UnusableSetting> {
        Self::of(|name| std::env::var(name).ok())
    }

    /// The same, of any variables.
    fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, UnusableSetting> {
        // An empty one is as one that is not set.
        let said = |name: &str| variable(name).filter(|said| !said.trim().is_empty());
        let first = |names: [&'static str; 2]| {
            let mut names = names.into_iter();
            names.find_map(|name| Some((name, said(name)?)))
        };
        if said("OTEL_SDK_DISABLED").is_some_and(|said| said.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let is_asked_for = match said("OTEL_TRACES_EXPORTER") {
            Some(exporters) => exporters.split(',').any(|one| one.trim() == "otlp"),
            None => first([
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                "OTEL_EXPORTER_OTLP_ENDPOINT",
            ])
            .is_some(),
        };
        if !is_asked_for {
            return Ok(None);
        }
        let protocol = first([
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            "OTEL_EXPORTER_OTLP_PROTOCOL",
        ]);
        if let Some((name, protocol)) = protocol.filter(|(_, said)| said.trim() != PROTOCOL) {
            let reason = format!("{name} is {protocol}, and there is only {PROTOCOL}");
            return Err(UnusableSetting(reason));
        }
        let timeout = first([
            "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
            "OTEL_EXPORTER_OTLP_TIMEOUT",
        ]);
        let timeout = timeout.and_then(|(_, said)| said.trim().parse().ok());
        let n_waiting = said("OTEL_BSP_MAX_QUEUE_SIZE").and_then(|said| said.trim().parse().ok());
        Ok(Some(Self {
            endpoint: None,
            n_waiting: n_waiting.unwrap_or(N_WAITING).clamp(1, MAX_WAITING),
            delay: None,
            timeout: timeout.map_or(TIMEOUT, Duration::from_millis),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<TraceSettings>, UnusableSetting> {
        TraceSettings::of(|name| {
            let mut variables = variables.iter();
            let said = variables.find(|(known, _)| *known == name);
            said.map(|(_, value)| (*value).to_owned())
        })
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");

    #[test]
    fn nothing_is_sent_that_nobody_asks_for() {
        for variables in [
            &[][..],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
            &[("OTEL_SERVICE_NAME", "docs")],
            &[ENDPOINT, ("OTEL_SDK_DISABLED", "True")],
            &[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")],
            &[ENDPOINT, ("OTEL_TRACES_EXPORTER", "console")],
        ] {
            assert_eq!(of(variables), Ok(None), "{variables:?}");
        }
    }

    #[test]
    fn it_is_sent_as_the_environment_asks() {
        let plain = of(&[ENDPOINT]).expect("usable").expect("asked for");
        assert_eq!(plain.endpoint, None);
        assert_eq!((plain.n_waiting, plain.timeout), (N_WAITING, TIMEOUT));
        let own = of(&[
            ("OTEL_TRACES_EXPORTER", "otlp"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ]);
        let own = own.expect("usable").expect("asked for");
        assert_eq!((own.n_waiting, own.timeout.as_millis()), (1, 250));
    }

    #[test]
    fn a_protocol_that_there_is_not_is_said() {
        let refused = of(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
        let said = refused.expect_err("there is none").to_string();
        assert!(
            said.contains("OTEL_EXPORTER_OTLP_PROTOCOL is grpc") && said.contains(PROTOCOL),
            "{said}"
        );
    }
}
