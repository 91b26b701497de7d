//! `perennial status`: how is a server of `perennial serve`?

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use perennial::rows::{Column, Schema, Tuple, Type, Value as Cell};
use serde_json::Value;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::args::StatusArgs;
use super::failure::Failure;
use super::run::width;
use super::table::table;
use super::wording;

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest reply that is read, in bytes.
const MAX_REPLY: u64 = 16 << 20;

/// Runs the command.
pub(crate) fn run(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let status = fetch(args)?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{status}").map_err(Failure::output)?;
        return Ok(code(&status));
    }
    for line in lines(&status) {
        writeln!(out, "{line}").map_err(Failure::output)?;
    }
    Ok(code(&status))
}

/// Scripts learn by the exit code whether it can answer.
fn code(status: &Value) -> ExitCode {
    match status["ready"] == true && status["failure"].is_null() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn fetch(args: &StatusArgs) -> Result<Value, Failure> {
    let url = format!("{}/v1/status", args.url.trim_end_matches('/'));
    let cannot = |what: String| {
        let hint = "check that it runs there: perennial serve --listen HOST:PORT FILE.sql";
        Failure::usage(format!("{url}: {what}"), hint)
    };
    let mut tls = TlsConfig::builder();
    if let Some(file) = &args.ca_file {
        tls = tls.root_certs(authorities(file)?);
    }
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .tls_config(tls.build())
        .timeout_global(Some(PATIENCE))
        .max_redirects(0)
        .build();
    let agent = ureq::Agent::new_with_config(config);
    let mut request = agent.get(&url);
    if let Some(file) = &args.token_file {
        let action = format!("read {}", file.display());
        let token = std::fs::read_to_string(file).map_err(Failure::io(action))?;
        request = request.header("authorization", format!("Bearer {}", token.trim()));
    }
    let mut response = request.call().map_err(|error| cannot(error.to_string()))?;
    let status = response.status();
    let body = response.body_mut().with_config().limit(MAX_REPLY);
    let text = body
        .read_to_string()
        .map_err(|error| cannot(error.to_string()))?;
    let reply: Value = serde_json::from_str(&text)
        .map_err(|_| cannot("what answers there is no server of Perennial".to_owned()))?;
    if status != 200 {
        let said = |field: &str| reply[field].as_str().unwrap_or_default().to_owned();
        return Err(Failure::usage(said("error"), said("hint")));
    }
    Ok(reply)
}

/// The authorities of a PEM file.
fn authorities(file: &Path) -> Result<RootCerts, Failure> {
    let action = format!("read {}", file.display());
    let pem = std::fs::read(file).map_err(Failure::io(action))?;
    let certificates = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<Certificate<'static>> = certificates.collect();
    match certificates.is_empty() {
        true => Err(Failure::usage(
            format!("{}: it holds no certificate in PEM", file.display()),
            "name the file that the server was given as --tls-cert, or its authority's",
        )),
        false => Ok(RootCerts::new_with_certs(&certificates)),
    }
}

/// The status, for people.
fn lines(status: &Value) -> Vec<String> {
    let text = |value: &Value| wording::plain(value.as_str().unwrap_or("-")).into_owned();
    let number = |value: &Value| {
        let n = value.as_u64().and_then(|n| usize::try_from(n).ok());
        n.map_or_else(|| "-".to_owned(), wording::thousands)
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let state = match (&status["failure"], &status["ready"]) {
        (Value::String(reason), _) => format!("failed: {}", wording::plain(reason)),
        (_, Value::Bool(true)) => "ready".to_owned(),
        _ => "not ready".to_owned(),
    };
    let uptime = Duration::from_millis(status["uptime_ms"].as_u64().unwrap_or(0));
    let mut lines = vec![format!(
        "{state} · up {}s · {} subscribers · {} connections · {} in quarantine",
        uptime.as_secs(),
        number(&status["n_subscribers"]),
        number(&status["n_connections"]),
        number(&status["n_quarantined"]),
    )];
    let rows = |names: &[&str], rows: Vec<Vec<String>>| {
        let columns = names.iter().map(|name| Column::new(*name, Type::Text));
        let rows: Vec<Tuple> = rows
            .into_iter()
            .map(|row| row.into_iter().map(Cell::text).collect())
            .collect();
        table(&Schema::new(columns), &rows, width())
    };
    let sources = list(&status["sources"]);
    if !sources.is_empty() {
        let of = |of: &Value| {
            vec![
                text(&of["name"]),
                text(&of["kind"]),
                number(&of["n_rows"]),
                text(&of["failure"]),
            ]
        };
        lines.push(rows(
            &["stream", "kind", "rows", "failure"],
            sources.iter().map(of).collect(),
        ));
    }
    let views = list(&status["views"]);
    if !views.is_empty() {
        let of = |of: &Value| {
            vec![
                text(&of["name"]),
                text(&of["status"]),
                number(&of["epoch"]),
                number(&of["n_rows"]),
                number(&of["n_behind"]),
                number(&of["n_subscribers"]),
                number(&of["work"]["forwarded"]),
                number(&of["rerun"]),
            ]
        };
        let names = [
            "view", "status", "epoch", "rows", "behind", "readers", "tokens", "rerun",
        ];
        lines.push(rows(&names, views.iter().map(of).collect()));
    }
    let owed = list(&status["undelivered"]);
    lines.extend(owed.iter().map(|of| {
        format!(
            "{} is owed {} epochs",
            text(&of["sink"]),
            number(&of["n_epochs"])
        )
    }));
    lines
}
