//! Runs one target of the fuzzer: the one that `FUZZ_TARGET` names. `fuzz/run` runs each.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use perennial::fuzz::TARGETS;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fn target() -> fn(&[u8]) {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    match TARGETS.iter().find(|(of, _)| *of == name) {
        Some((_, target)) => *target,
        None => {
            let names: Vec<&str> = TARGETS.iter().map(|(of, _)| *of).collect();
            eprintln!("FUZZ_TARGET is one of: {}", names.join(" "));
            std::process::exit(2)
        }
    }
}

fuzz_target!(|bytes: &[u8]| TARGET.get_or_init(target)(bytes));
