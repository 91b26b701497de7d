#!/usr/bin/env bash
# Every benchmark of speed, one after the other: tables as Markdown, curves as SVG.
#
#   benches/run.sh FOLDER            # both models, contexts up to 32,000 tokens: hours
#   benches/run.sh --quick FOLDER    # the small model, small contexts
#
# PEER_PYTHON names an interpreter that can import llama_cpp; without it one is made under
# target/peer, which compiles llama.cpp. THREADS is how many threads compute (default: all cores).
set -euo pipefail

usage() {
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    exit 2
}

quick=
[[ ${PEER_PYTHON:-} != */* ]] || PEER_PYTHON=$(realpath -s "$PEER_PYTHON")
if [[ ${1:-} == --quick ]]; then
    quick=1
    shift
fi
[[ $# == 1 && $1 != -* ]] || usage
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
threads=${THREADS:-$(nproc)}

if [[ -z ${PEER_PYTHON:-} ]]; then
    [[ -d target/peer ]] || python3 -m venv target/peer
    target/peer/bin/python -c 'import llama_cpp, numpy' 2>/dev/null ||
        target/peer/bin/pip install --quiet llama-cpp-python==0.3.36 numpy
    PEER_PYTHON=$PWD/target/peer/bin/python
fi

# Runs benchmark $2 with the rest as flags; its table goes to $1.md.
measure() {
    local name=$1 bench=$2
    shift 2
    echo "==> $name" >&2
    cargo bench --locked --quiet --bench "$bench" -- "$@" | tee "$out/$name.md"
}

cargo bench --locked --no-run
if [[ $quick ]]; then
    models=(smollm2-135m)
    prefill=128,512 after=512 verified=512 tokens=1024 contexts=1,10 curve=1024,2048
    documents=10000
else
    models=(smollm2-135m qwen2.5-coder-0.5b)
    prefill=128,512,2048,8192 after=2048 verified=2048,8192 tokens=2048,8192 contexts=1,100
    curve=2048,6700,8192,16384,32000 documents=100000
fi
largest=${models[-1]}
all=$(IFS=,; echo "${models[*]}")

measure speed speed "${models[@]/#/--model=}" --threads "$threads" --prefill "$prefill" \
    --decode-after "$after" --verify-after "$verified" --peer-python "$PEER_PYTHON"
measure refresh refresh --model "$all" --tokens "$tokens" --threads "$threads"
measure refresh-recent refresh --model "$largest" --tokens "$tokens" --threads "$threads" \
    --places recent --scope causal
measure contexts refresh --model "$largest" --tokens "${tokens%%,*}" --threads "$threads" \
    --contexts "$contexts"
measure updates lineage --curve --model "$largest" --tokens "$curve" --threads "$threads" \
    --plot "$out/updates.svg" --peer-python "$PEER_PYTHON"
measure ingest ingest --documents "$documents"
measure restart restart --model "$all" --tokens "${tokens%%,*}" --threads "$threads"
echo "tables and curves: $out" >&2
