#!/usr/bin/env python3
"""llama.cpp's side of the `speed` benchmark: one measurement a line.

Reads one JSON object a line on stdin and answers each with one on stdout, so
that the caller can interleave its own runs with these on a busy machine:

    {"op": "load", "model": PATH, "threads": 1, "flash_attention": true, "capacity": 2304}
        -> {"ok": true, "package": …, "system": …, "n_vocab": …, "load_s": …}
    {"op": "prefill", "tokens": [ids]}
        -> {"ok": true, "tokens": n, "wall_s": …, "cpu_s": …}
    {"op": "decode", "context": [ids], "tokens": [ids]}
        -> the same, for `tokens` fed one at a time after `context`
    {"op": "quit"}

Whatever fails is answered with {"ok": false, "error": text}; the process lives
on. `prefill` empties the context first and wants logits of the last id only.
`decode` feeds given ids, so no sampling is timed; `context` is computed before
the clock starts, and kept: asking again with the same context costs only the
decoding. `cpu_s` is user plus system time of all threads, and so counts
llama.cpp's threads while they spin.

By hand, without a caller (medians over repeats, one JSON object a line):

    llamacpp.py --model M.gguf --threads 1,2 --prefill 128,512,2048 --decode-after 2048
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "peer"))

import llama  # noqa: E402


class Peer:
    """The model loaded last, and the context that its cache holds."""

    def __init__(self):
        self.engine = None
        self.cached = None

    def load(self, request):
        if self.engine:
            self.engine.close()
            self.engine = self.cached = None
        start = time.perf_counter()
        self.engine = llama.Llama(
            request["model"],
            request["threads"],
            request["flash_attention"],
            request["capacity"],
        )
        # The first pass pays for allocations and for reading the mapped file.
        self.engine.feed([1] * min(32, request["capacity"]))
        self.engine.feed([1])
        self.engine.forget()
        return {
            **llama.version(),
            "n_vocab": self.engine.n_vocab,
            "load_s": time.perf_counter() - start,
        }

    def prefill(self, request):
        self.cached = None
        self.engine.forget()
        with Clock() as clock:
            self.engine.feed(request["tokens"])
        return clock.reading(len(request["tokens"]))

    def decode(self, request):
        context = request["context"]
        if self.cached == context:
            self.engine.keep(len(context))
        else:
            self.engine.forget()
            self.engine.feed(context)
            self.cached = context
        with Clock() as clock:
            for token in request["tokens"]:
                self.engine.feed([token])
        return clock.reading(len(request["tokens"]))

    def answer(self, request):
        operation = request.get("op")
        if operation == "load":
            return self.load(request)
        if operation not in ("prefill", "decode"):
            raise ValueError(f"unknown op {operation!r}: expected load, prefill, decode or quit")
        if not self.engine:
            raise ValueError(f"{operation} before load")
        return getattr(self, operation)(request)


class Clock:
    """Wall and CPU seconds of a `with` block."""

    def __enter__(self):
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        self.wall = time.perf_counter() - self.wall
        self.cpu = time.process_time() - self.cpu

    def reading(self, n_tokens):
        return {"tokens": n_tokens, "wall_s": self.wall, "cpu_s": self.cpu}


def serve():
    """Answers stdin line by line until it ends or says quit."""
    peer = Peer()
    for line in sys.stdin:
        try:
            request = json.loads(line)
            if request.get("op") == "quit":
                break
            reply = {"ok": True, **peer.answer(request)}
        except Exception as error:  # the caller decides what a failure means
            reply = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


def arbitrary_ids(n, n_vocab):
    """Ids of no meaning, the same each time; speed does not depend on them."""
    state, ids = 1, []
    for _ in range(n):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        ids.append((state >> 33) % n_vocab)
    return ids


def measure(options):
    """Every combination of the options, its repeats one after another."""
    peer = Peer()
    capacity = max([*options.prefill, options.decode_after + options.decode])
    for threads in options.threads:
        for flash_attention in (True, False):
            loaded = peer.load(
                {
                    "model": options.model,
                    "threads": threads,
                    "flash_attention": flash_attention,
                    "capacity": capacity,
                }
            )
            ids = arbitrary_ids(capacity, loaded["n_vocab"])
            after = options.decode_after
            requests = [{"op": "prefill", "tokens": ids[:n]} for n in options.prefill]
            requests.append(
                {"op": "decode", "context": ids[:after], "tokens": ids[after : after + options.decode]}
            )
            for request in requests:
                runs = [peer.answer(request) for _ in range(options.repeats)]
                wall = statistics.median(run["wall_s"] for run in runs)
                cpu = statistics.median(run["cpu_s"] for run in runs)
                n = runs[0]["tokens"]
                print(
                    json.dumps(
                        {
                            "op": request["op"],
                            "tokens": n,
                            "after": len(request.get("context", [])),
                            "threads": threads,
                            "flash_attention": flash_attention,
                            "wall_s": round(wall, 4),
                            "cpu_s": round(cpu, 4),
                            "tokens_per_s": round(n / wall, 2),
                            "tokens_per_cpu_s": round(n / cpu, 2),
                        }
                    ),
                    flush=True,
                )


def numbers(text):
    return [int(part) for part in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", help="a GGUF file; without it, requests are read from stdin")
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--prefill", type=numbers, default=[128, 512, 2048])
    parser.add_argument("--decode-after", type=int, default=2048)
    parser.add_argument("--decode", type=int, default=32, help="tokens decoded a run")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if options.model:
        measure(options)
    else:
        serve()


if __name__ == "__main__":
    main()
