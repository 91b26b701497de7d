//! A test that goes through a script in a process of its own, which may be killed at a fault point,
//! and goes on from where it was left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use perennial::fault;

/// How many steps of the script are done.
const DONE: &str = "done";
/// The environment of the child, which the program itself never reads.
const DIR: &str = "PERENNIAL_TEST_FAULT_DIR";
const FAULT: &str = "PERENNIAL_TEST_FAULT";

/// Runs the child, an ignored test of this name, in `dir` until it ends, or gets to the point.
pub(crate) fn run(test: &str, dir: &Path, point: Option<&str>) -> ExitStatus {
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    child
        .args([test, "--exact", "--ignored"])
        .env(DIR, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match point {
        Some(point) => child.env(FAULT, point),
        None => child.env_remove(FAULT),
    };
    child.status().expect("starts")
}

/// In the child: its folder, with its fault point armed. None for who runs the test otherwise.
pub(crate) fn begin() -> Option<PathBuf> {
    let dir = std::env::var(DIR).ok()?;
    if let Ok(point) = std::env::var(FAULT) {
        fault::arm(&point).expect("a point");
    }
    Some(dir.into())
}

/// How many steps are done.
pub(crate) fn n_done(dir: &Path) -> usize {
    fs::read_to_string(dir.join(DONE)).map_or(0, |n| n.parse().expect("a number"))
}

/// Notes how many steps are done. Another thread may end the process at any time: it is there whole or
/// not at all.
pub(crate) fn note_done(dir: &Path, n: usize) {
    let new = dir.join(DONE).with_extension("new");
    fs::write(&new, n.to_string()).expect("writable");
    fs::rename(&new, dir.join(DONE)).expect("writable");
}
