//! `perennial status`: how is a server of `perennial serve`?

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use perennial::rows::{Column, Schema, Tuple, Type, Value as Cell};
use serde_json::Value;

use super::args::StatusArgs;
use super::endpoint::Endpoint;
use super::failure::Failure;
use super::run::width;
use super::table::table;
use super::wording;

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the command.
pub(crate) fn run(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let status = Endpoint::at(&args.url, &args.access, PATIENCE)?.status()?;
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
pub(crate) fn code(status: &Value) -> ExitCode {
    match status["ready"] == true && status["failure"].is_null() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
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
        lines.extend(views.iter().filter_map(|of| {
            let cost = &of["work"]["cost"];
            cost.is_object().then(|| {
                let (amount, currency) = (text(&cost["amount"]), text(&cost["currency"]));
                format!("{} cost {amount} {currency}", text(&of["name"]))
            })
        }));
    }
    lines.extend(fragments(&status["fragments"]));
    let owed = list(&status["undelivered"]);
    lines.extend(owed.iter().map(|of| {
        format!(
            "{} is owed {} epochs",
            text(&of["sink"]),
            number(&of["n_epochs"])
        )
    }));
    let put_aside = list(&status["dead_letters"]);
    let put_aside = put_aside.iter().filter(|of| of["n_rows"] != 0);
    lines.extend(put_aside.map(|of| {
        format!(
            "{} has refused {} for good: {}",
            text(&of["sink"]),
            wording::count(of["n_rows"].as_u64().unwrap_or_default() as usize, "row"),
            text(&of["file"])
        )
    }));
    lines
}

/// What is held of documents that were read, by where it is.
fn fragments(of: &Value) -> Option<String> {
    let n = |of: &Value| of.as_u64().and_then(|n| usize::try_from(n).ok());
    let n = |of: &Value| n(of).unwrap_or_default();
    let n_bytes = |of: &Value| wording::megabytes(of.as_u64().unwrap_or_default());
    let count = |of: &Value| wording::count(n(of), "fragment");
    let found = |n| format!("found {}", wording::thousands(n));
    let memory = format!(
        "{} of {} in memory, {}, {}",
        n_bytes(&of["bytes"]),
        n_bytes(&of["budget_bytes"]),
        count(of.get("n")?),
        found(n(&of["n_hits"]).saturating_sub(n(&of["n_disk_hits"]))),
    );
    let warm = &of["warm"];
    let coding = warm["coding"].as_str().map(wording::plain);
    let warm = coding.map(|coding| {
        let (bytes, n_hits) = (n_bytes(&warm["bytes"]), n(&warm["n_hits"]));
        format!(
            "{bytes} as {coding}, {}, {}",
            count(&warm["n"]),
            found(n_hits)
        )
    });
    let disk = (n(&of["disk_bytes"]) > 0).then(|| {
        let (bytes, n_hits) = (n_bytes(&of["disk_bytes"]), n(&of["n_disk_hits"]));
        format!(
            "{bytes} on disk, {}, {}",
            count(&of["n_on_disk"]),
            found(n_hits)
        )
    });
    let missed = format!("not found {}", wording::thousands(n(&of["n_misses"])));
    let parts = [Some(memory), warm, disk, Some(missed)];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    Some(format!("fragments {}", parts.join(" · ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fragments_are_told_by_where_they_are() {
        let of = json!({
            "n": 120, "bytes": 73_400_320, "budget_bytes": 1_073_741_824, "n_hits": 400, "n_disk_hits": 30,
            "n_misses": 20, "n_on_disk": 1, "disk_bytes": 5_000_000,
            "warm": {"coding": "k8v4", "n": 40, "bytes": 12_000_000, "n_hits": 7},
        });
        assert_eq!(
            fragments(&of).as_deref(),
            Some(
                "fragments 74 MB of 1074 MB in memory, 120 fragments, found 370 · 12 MB as k8v4, 40 fragments, \
                 found 7 · 5 MB on disk, 1 fragment, found 30 · not found 20"
            )
        );
        let plain = json!({"n": 0, "warm": null});
        let told = fragments(&plain).expect("they are kept");
        assert!(!told.contains(" as ") && !told.contains("disk"), "{told}");
        // A model behind HTTP keeps none.
        assert_eq!(fragments(&Value::Null), None);
    }
}
