# Habits of this repository; `just` lists them.

[private]
default:
    @just --list

# Run the demo on the default model.
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# All tests, with the profile of the program: every crate is compiled once.
test *ARGS:
    cargo test --release --workspace {{ARGS}}

# What must hold before a change lands.
check:
    .ci/run

# Formats everything.
format:
    cargo fmt --all

# Every benchmark of speed: tables and curves into a folder (see benches/README.md).
bench-all *ARGS:
    benches/run.sh {{ARGS}}

# Prefill and decode beside llama.cpp (see benches/README.md).
bench-speed *ARGS:
    cargo bench --bench speed -- {{ARGS}}

# Refresh against a run from scratch.
bench-refresh *ARGS:
    cargo bench --bench refresh -- {{ARGS}}

# Answer quality by scope.
bench-quality *ARGS:
    cargo bench --bench quality -- {{ARGS}}

# One edit, many standing questions.
bench-many *ARGS:
    cargo bench --bench many -- {{ARGS}}

# What edits do to answers, by policy and rung.
bench-edits *ARGS:
    cargo bench --bench edits -- {{ARGS}}

# Dependencies against deletions.
bench-dependencies *ARGS:
    cargo bench --bench dependencies -- {{ARGS}}

# LineageKV's table, and the speed of updates.
bench-lineage *ARGS:
    cargo bench --bench lineage -- {{ARGS}}
