//! The rules of the house that a machine can check: which crate may know which, and which room
//! of a crate which other; which licences come in; and that the program and the tests are built of
//! the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::paths;

/// `ARCHITECTURE.md`, "Layers": a crate and the workspace crates it may depend on.
const ARROWS: [(&str, &[&str]); 9] = [
    ("perennial-rows", &[]),
    ("perennial-model", &["perennial-rows"]),
    ("perennial-bank", &["perennial-model", "perennial-rows"]),
    (
        "perennial-ask",
        &["perennial-bank", "perennial-model", "perennial-rows"],
    ),
    (
        "perennial-operators",
        &[
            "perennial-ask",
            "perennial-bank",
            "perennial-model",
            "perennial-rows",
        ],
    ),
    (
        "perennial-views",
        &[
            "perennial-operators",
            "perennial-ask",
            "perennial-bank",
            "perennial-rows",
        ],
    ),
    ("perennial-connectors", &["perennial-rows"]),
    (
        "perennial",
        &[
            "perennial-rows",
            "perennial-model",
            "perennial-bank",
            "perennial-ask",
            "perennial-operators",
            "perennial-views",
            "perennial-connectors",
        ],
    ),
    ("perennial-fuzz", &["perennial"]),
];

/// A room of the facade's crate and the rooms that it may name. The engine and what it stores name
/// each other's types, so `state`, `recording` and `engine` are one circle; nothing else may be.
const ROOMS_OF_THE_FACADE: [(&str, &[&str]); 15] = [
    ("fault", &[]),
    ("calibration", &[]),
    ("state", &["engine", "fault"]),
    ("recording", &["engine", "fault", "state"]),
    ("engine", &["fault", "recording", "state"]),
    ("json", &["engine"]),
    ("local_model", &["engine"]),
    ("remote_model", &["engine", "local_model"]),
    ("memory", &["engine"]),
    ("otel", &["engine"]),
    ("sql", &["engine", "memory"]),
    ("serve", &["engine", "json", "memory", "sql", "state"]),
    ("mcp", &["engine", "memory", "serve"]),
    ("fuzz", &["mcp", "serve"]),
    (
        "cli",
        &[
            "calibration",
            "engine",
            "fault",
            "json",
            "local_model",
            "memory",
            "mcp",
            "otel",
            "remote_model",
            "recording",
            "serve",
            "sql",
            "state",
        ],
    ),
];

/// The same of `views`. What asks a model (`agenda`, `calls`, `memo`, `embeddings`, `outputs`,
/// `layout`, `dataflow`) shares the types of its traces, in a circle; queries stand apart from it.
const ROOMS_OF_VIEWS: [(&str, &[&str]); 21] = [
    ("view", &["pace"]),
    ("pace", &[]),
    ("shared", &[]),
    ("speed", &[]),
    ("plan", &["pace", "view"]),
    ("rerun", &[]),
    ("measure", &["dataflow"]),
    ("query", &["measure"]),
    ("sql", &["pace", "query", "view"]),
    ("memo", &["calls", "plan", "view"]),
    ("agenda", &["dataflow"]),
    ("calls", &["agenda", "dataflow", "memo", "plan", "view"]),
    ("embeddings", &["calls", "dataflow", "memo", "shared"]),
    (
        "outputs",
        &[
            "calls",
            "dataflow",
            "embeddings",
            "measure",
            "memo",
            "shared",
            "speed",
        ],
    ),
    (
        "layout",
        &["calls", "dataflow", "embeddings", "plan", "view"],
    ),
    (
        "dataflow",
        &[
            "agenda",
            "calls",
            "embeddings",
            "layout",
            "memo",
            "plan",
            "rerun",
            "view",
        ],
    ),
    ("bounds", &[]),
    (
        "render",
        &[
            "bounds",
            "dataflow",
            "embeddings",
            "measure",
            "outputs",
            "query",
        ],
    ),
    (
        "evaluate",
        &[
            "bounds",
            "dataflow",
            "embeddings",
            "measure",
            "outputs",
            "query",
            "render",
            "sql",
        ],
    ),
    (
        "trace",
        &[
            "bounds",
            "dataflow",
            "embeddings",
            "evaluate",
            "measure",
            "outputs",
            "query",
            "render",
        ],
    ),
    (
        "forecast",
        &[
            "bounds",
            "dataflow",
            "embeddings",
            "evaluate",
            "measure",
            "outputs",
            "query",
            "render",
        ],
    ),
];

/// Licences under which a dependency may come.
const LICENCES: [&str; 14] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

#[test]
fn crates_know_only_what_the_layers_allow() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let members: BTreeMap<&str, BTreeSet<&str>> = packages
        .iter()
        .filter(|package| package["source"].is_null())
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies");
            let own = dependencies
                .iter()
                .map(|dependency| text(dependency, "name"))
                .filter(|name| name.starts_with("perennial"))
                .collect();
            (text(package, "name"), own)
        })
        .collect();
    let allowed: BTreeMap<&str, BTreeSet<&str>> = ARROWS
        .iter()
        .map(|(name, known)| (*name, known.iter().copied().collect()))
        .collect();
    assert_eq!(
        members.keys().collect::<Vec<_>>(),
        allowed.keys().collect::<Vec<_>>(),
        "the workspace's crates"
    );
    for (name, dependencies) in members {
        let extra: Vec<_> = dependencies.difference(&allowed[name]).collect();
        assert!(extra.is_empty(), "{name} must not know {extra:?}");
    }
}

/// What a crate's rooms name that they may not, or that is not declared at all.
fn forbidden(folder: &str, name: &str, allowed: &[(&str, &[&str])]) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let (rooms, arrows) = paths::arrows(&folder, name);
    assert!(rooms.len() > 5 && arrows.len() > 5, "{rooms:?} {arrows:?}");
    let allowed: BTreeMap<&str, &[&str]> = allowed.iter().copied().collect();
    let undeclared = rooms.iter().filter(|room| !allowed.contains_key(&***room));
    let undeclared = undeclared.map(|room| format!("{room} is a room that no table has"));
    let is_extra = |((from, to), _): &(&(String, String), &String)| {
        !allowed
            .get(&**from)
            .is_some_and(|known| known.contains(&&**to))
    };
    let extra = arrows.iter().filter(is_extra);
    let extra = extra.map(|((_, to), file)| format!("{file} must not name {to}"));
    undeclared.chain(extra).collect()
}

#[test]
fn rooms_name_only_what_the_tables_allow() {
    for (folder, name, allowed) in [
        ("src", "perennial", &ROOMS_OF_THE_FACADE[..]),
        ("views/src", "perennial_views", &ROOMS_OF_VIEWS[..]),
    ] {
        assert_eq!(forbidden(folder, name, allowed), [""; 0], "{folder}");
    }
}

#[test]
fn an_arrow_that_no_table_has_is_found() {
    let mut allowed = ROOMS_OF_VIEWS;
    for (room, known) in &mut allowed {
        if *room == "render" {
            *known = &["bounds", "dataflow", "embeddings", "measure", "outputs"];
        }
    }
    let found = forbidden("views/src", "perennial_views", &allowed);
    assert!(
        matches!(&found[..], [only] if only.starts_with("render") && only.ends_with("query")),
        "{found:?}"
    );
    let undeclared = forbidden("views/src", "perennial_views", &allowed[1..]);
    assert!(undeclared.iter().any(|found| found.starts_with("view is")));
}

#[test]
fn every_dependency_has_a_licence_we_accept() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().expect("packages") {
        let expression = text(package, "license").replace('/', " OR ");
        let is_accepted = expression.split(" OR ").any(|alternative| {
            let alternative = alternative.trim().trim_matches(['(', ')']);
            alternative
                .split(" AND ")
                .all(|licence| LICENCES.contains(&licence.trim().trim_matches(['(', ')'])))
        });
        assert!(
            is_accepted,
            "{}: licence `{expression}`",
            text(package, "name")
        );
    }
}

/// Each crate that a set of dependency kinds brings in, with the features it is built with.
fn resolved(args: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--prefix", "none", "-f", "{p}|{f}"])
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let mut crates: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some((name, features)) = line.trim_end_matches(" (*)").split_once('|') {
            // A crate of procedural macros and of the program may stand with two sets.
            let features = features.to_owned();
            crates.entry(name.to_owned()).or_default().insert(features);
        }
    }
    crates
}

/// Otherwise a user of both commands of the README compiles much of the tree twice.
#[test]
fn the_program_and_the_tests_resolve_every_crate_alike() {
    let program = resolved(&["-e", "normal,build"]);
    let mut tests = resolved(&["--workspace", "-e", "normal,build,dev"]);
    tests.retain(|name, _| program.contains_key(name));
    assert_eq!(program, tests);
}
