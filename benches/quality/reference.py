#!/usr/bin/env python3
"""The reference side of the `quality` benchmark: llama.cpp's greedy answers.

Input: JSON lines, as the `quality` benchmark exports them, so that template
and tokenization are the same on both sides and only the engines differ:

    {"id": …, "prompt_token_ids": [ids], "stop_token_ids": [ids]?, "max_tokens": n?, …}

Output: JSON lines, one for each input row, in order:

    {"id": …, "prompt_sha256": hex, "answer": text, "answer_token_ids": [ids],
     "finish": "stop"|"length", "min_margin": x, "top": [[id, logit], …]}

`prompt_sha256` is of the prompt's ids as little-endian 32-bit words.
`min_margin` is the smallest gap between the two best logits over the answer:
where it is near zero, another engine's answer may differ without being worse.
`top` holds the first answer token's best logits. Nothing is scored here: the
benchmark scores both sides with the same code. Greedy means the highest logit,
the lowest id among equals; generation ends at a stop id, at whatever ends
generation for llama.cpp, or after `max_tokens`.

Rows already in the output file, for the same prompt, are not computed again: a long
run may be interrupted. Where rows of one id repeat, the last counts.

    reference.py --model M.gguf --prompts prompts.jsonl --output answers.jsonl
"""

import argparse
import array
import hashlib
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "peer"))

import llama  # noqa: E402
import numpy as np  # noqa: E402

# How many of the first answer token's logits are written.
N_TOP = 20


def best(logits, n):
    """The `n` highest logits as (id, logit), the lowest id first among equals."""
    ids = np.argsort(-logits, kind="stable")[:n]
    return [(int(i), float(logits[i])) for i in ids]


def digest(tokens):
    words = array.array("I", tokens)
    if sys.byteorder == "big":
        words.byteswap()
    return hashlib.sha256(words.tobytes()).hexdigest()


def generate(engine, prompt, stop, max_tokens):
    """Greedy continuation of the ids: what it is, why it ended, how sure it was."""
    engine.forget()
    logits = engine.feed(prompt)
    first = best(logits, N_TOP)
    tokens, margin, finish = [], float("inf"), "length"
    while True:
        (token, top), (_, second) = best(logits, 2)
        margin = min(margin, top - second)
        if token in stop or engine.ends_generation(token):
            finish = "stop"
            break
        tokens.append(token)
        if len(tokens) == max_tokens:
            break
        logits = engine.feed([token])
    return {
        "answer": engine.text(tokens).strip(),
        "answer_token_ids": tokens,
        "finish": finish,
        "min_margin": margin,
        "top": first,
    }


def read_rows(path):
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            row = json.loads(line)
            if "id" not in row or not row.get("prompt_token_ids"):
                sys.exit(f"{path}:{number}: a row needs id and prompt_token_ids")
            yield row


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--prompts", required=True, help="JSON lines with prompt_token_ids")
    parser.add_argument("--output", required=True, help="JSON lines, appended to")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--max-tokens", type=int, default=64, help="where a row names none")
    parser.add_argument("--flash-attention", action="store_true")
    parser.add_argument("--limit", type=int, help="only the first rows")
    options = parser.parse_args()

    rows = list(read_rows(options.prompts))[: options.limit]
    output = pathlib.Path(options.output)
    done = {}
    if output.exists():
        done = {row["id"]: row["prompt_sha256"] for row in map(json.loads, output.open())}
    left = [row for row in rows if done.get(row["id"]) != digest(row["prompt_token_ids"])]
    if not left:
        print("every row is answered", file=sys.stderr)
        return
    longest = max(
        len(row["prompt_token_ids"]) + row.get("max_tokens", options.max_tokens) for row in left
    )
    engine = llama.Llama(options.model, options.threads, options.flash_attention, longest)
    start = time.perf_counter()
    with output.open("a", encoding="utf-8") as sink:
        for number, row in enumerate(left, 1):
            answer = generate(
                engine,
                row["prompt_token_ids"],
                set(row.get("stop_token_ids", [])),
                row.get("max_tokens", options.max_tokens),
            )
            known = {"id": row["id"], "prompt_sha256": digest(row["prompt_token_ids"])}
            sink.write(json.dumps({**known, **answer}, ensure_ascii=False) + "\n")
            sink.flush()
            print(
                f"\r{number}/{len(left)} rows, {time.perf_counter() - start:.0f} s",
                end="",
                file=sys.stderr,
            )
    print(file=sys.stderr)


if __name__ == "__main__":
    main()
