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
    {"op": "verify", "context": [ids], "tokens": [ids]}
        -> the same, for `tokens` fed at once after `context`, with logits of each
    {"op": "quit"}

Whatever fails is answered with {"ok": false, "error": text}; the process lives
on. `prefill` empties the context first and wants logits of the last id only.
`decode` feeds given ids, so no sampling is timed; `context` is computed before
the clock starts, and kept: asking again with the same context costs only what
follows it. `cpu_s` is user plus system time of all threads, and so counts
llama.cpp's threads while they spin.
"""

import json
import pathlib
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

    def stand_after(self, context):
        if self.cached == context:
            self.engine.keep(len(context))
        else:
            self.engine.forget()
            self.engine.feed(context)
            self.cached = context

    def decode(self, request):
        self.stand_after(request["context"])
        with Clock() as clock:
            for token in request["tokens"]:
                self.engine.feed([token])
        return clock.reading(len(request["tokens"]))

    def verify(self, request):
        self.stand_after(request["context"])
        with Clock() as clock:
            self.engine.feed(request["tokens"], all_logits=True)
        return clock.reading(len(request["tokens"]))

    def answer(self, request):
        operation = request.get("op")
        if operation == "load":
            return self.load(request)
        if operation not in ("prefill", "decode", "verify"):
            raise ValueError(f"unknown op {operation!r}: expected load, prefill, decode, verify or quit")
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


if __name__ == "__main__":
    serve()
