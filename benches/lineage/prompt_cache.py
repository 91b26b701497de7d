#!/usr/bin/env python3
"""llama.cpp's side of the `lineage` benchmark: answers with a prompt cache.

Reads one JSON object a line on stdin and answers each with one on stdout:

    {"op": "load", "model": PATH, "threads": 2, "capacity": 33000}
        -> {"ok": true, "package": …, "system": …}
    {"op": "answer", "prompt": [ids], "cached": 1200, "decode": 64}
        -> {"ok": true, "wall_s": …, "tokens": [ids]}
    {"op": "quit"}

`answer` sees to it that the first `cached` ids stand in the cache, and nothing
behind them, before the clock starts; what of them the cache holds from before
is kept. Timed are the rest of the prompt and `decode` greedy tokens. The last
id of a prompt is never cached, since its logits are wanted. Whatever fails is
answered with {"ok": false, "error": text}; the process lives on.
"""

import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "peer"))

import llama  # noqa: E402


class PromptCache:
    """One model and the ids that its cache holds."""

    def __init__(self):
        self.engine = None
        self.held = []

    def load(self, request):
        if self.engine:
            self.engine.close()
        self.engine = llama.Llama(request["model"], request["threads"], True, request["capacity"])
        # The first pass pays for allocations and for reading the mapped file.
        self.engine.feed([1] * min(32, request["capacity"]))
        self.engine.feed([1])
        self.engine.forget()
        self.held = []
        return llama.version()

    def hold(self, tokens):
        """Brings the cache to hold exactly these ids."""
        same = 0
        while same < min(len(self.held), len(tokens)) and self.held[same] == tokens[same]:
            same += 1
        if same == 0:
            self.engine.forget()
        else:
            self.engine.keep(same)
        self.held = self.held[:same]
        self.feed(tokens[same:])

    def feed(self, tokens):
        logits = self.engine.feed(tokens) if tokens else None
        self.held.extend(tokens)
        return logits

    def answer(self, request):
        prompt = request["prompt"]
        cached = min(request["cached"], len(prompt) - 1)
        self.hold(prompt[:cached])
        start = time.perf_counter()
        logits = self.feed(prompt[cached:])
        answer = [int(logits.argmax())]
        while len(answer) < request["decode"]:
            logits = self.feed(answer[-1:])
            answer.append(int(logits.argmax()))
        return {"wall_s": time.perf_counter() - start, "tokens": answer}

    def reply(self, request):
        operation = request.get("op")
        if operation == "load":
            return self.load(request)
        if operation != "answer":
            raise ValueError(f"unknown op {operation!r}: expected load, answer or quit")
        if not self.engine:
            raise ValueError(f"{operation} before load")
        return self.answer(request)


def serve():
    """Answers stdin line by line until it ends or says quit."""
    cache = PromptCache()
    for line in sys.stdin:
        try:
            request = json.loads(line)
            if request.get("op") == "quit":
                break
            reply = {"ok": True, **cache.reply(request)}
        except Exception as error:  # the caller decides what a failure means
            reply = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    serve()
