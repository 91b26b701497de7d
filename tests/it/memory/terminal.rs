//! `perennial memory`, as far as it needs no model.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use perennial::ask::scripted::Scripted;
use perennial::rows::{Column, Schema, Type};

use crate::rig::Rig;

fn retain(state: &Path, set: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_perennial"))
        .args(["memory", "retain", "--state"])
        .arg(state)
        .args(set)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .expect("the program starts")
}

#[test]
fn a_setting_that_cannot_be_read_is_set_anew_as_the_hint_says() {
    let dir = tempfile::tempdir().expect("a folder");
    let columns = Schema::new(["key", "text"].map(|name| Column::new(name, Type::Text)));
    let builder = Rig::builder(Scripted::new()).state(dir.path()).history(0);
    let engine = builder.table_of("memory_settings", columns).start();
    let engine = engine.expect("starts");
    engine
        .upsert("memory_settings", "retain", "much")
        .expect("runs");
    engine.flush().expect("runs");
    drop(engine);
    let refused = retain(dir.path(), &[]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("retain `much`"), "{said}");
    assert!(said.contains("memory retain --state FOLDER all"), "{said}");
    let set = retain(dir.path(), &["all"]);
    let said = String::from_utf8_lossy(&set.stderr);
    assert!(set.status.success(), "{said}");
    assert_eq!(retain(dir.path(), &[]).stdout, b"all\n");
}
