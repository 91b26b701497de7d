"""Perennial beside LOTUS: filter, join, top-k and aggregate over one set, by one model at one endpoint.

Both sides ask the same OpenAI-compatible server through a proxy of this script, which counts requests and
tokens as the server reports them. LOTUS runs with its cache; Perennial's views are made in a `perennial serve` of their own,
one a task. Then one passage is edited, and each side brings its result up to date: LOTUS by running
the operator again, Perennial by itself.

    python3 -m venv peer && peer/bin/pip install lotus-ai 'llama-cpp-python[server]'
    peer/bin/python -m llama_cpp.server --model qwen2.5-0.5b.gguf --model_alias qwen --n_ctx 8192 --interrupt_requests false --port 8080
    cargo build --release
    peer/bin/python benches/lotus/compare.py --data squad.jsonl --url http://127.0.0.1:8080/v1 --model qwen

`--data` is SQuAD as lines of `{id, title, text, questions: [{question}]}`. What is right is known from it: the article
that a passage is of, and the passage that a question was asked about.

It does not say how good LOTUS or the model is: rows are few, and prompts are each side's own.
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HERE = pathlib.Path(__file__).parent
TASKS = ["filter", "join", "topk", "agg"]
K = 3
# Seconds that a server may take to listen, and a request to be answered.
PATIENCE = 60
LONGEST = 3600


class Meter:
    """Requests and tokens that went through the proxy."""

    def __init__(self):
        self.lock = threading.Lock()
        self.n_calls = self.n_read = self.n_written = 0

    def add(self, usage):
        with self.lock:
            self.n_calls += 1
            self.n_read += usage.get("prompt_tokens") or 0
            self.n_written += usage.get("completion_tokens") or 0

    def take(self):
        with self.lock:
            taken = (self.n_calls, self.n_read, self.n_written)
            self.n_calls = self.n_read = self.n_written = 0
        return taken


def usage_of(body):
    """What a reply, or the last event of a stream that says so, reports as usage."""
    with contextlib.suppress(ValueError, AttributeError):
        return json.loads(body).get("usage") or {}
    found = {}
    for line in body.splitlines():
        if line.startswith(b"data: {"):
            with contextlib.suppress(ValueError):
                found = json.loads(line[6:]).get("usage") or found
    return found


def flattened(body):
    """A request whose contents are lists of texts, as LOTUS's comparisons send them, with each in one text: templates of
    small servers take nothing else."""
    with contextlib.suppress(ValueError, AttributeError, TypeError, KeyError):
        request = json.loads(body)
        for message in request["messages"]:
            if isinstance(message["content"], list):
                message["content"] = "".join(part["text"] for part in message["content"])
        return json.dumps(request).encode()
    return body


def proxy(url, meter):
    """Forwards to a server, and counts what it is asked to write or to score."""
    there = urllib.parse.urlsplit(url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self):
            n = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(n)
            body = flattened(body)
            connection = http.client.HTTPConnection(there.hostname, there.port, timeout=LONGEST)
            left_out = ("host", "accept-encoding", "content-length")
            headers = {k: v for k, v in self.headers.items() if k.lower() not in left_out}
            connection.request(self.command, self.path, body, headers)
            reply = connection.getresponse()
            answer = reply.read()
            if self.command == "POST" and reply.status == 200:
                meter.add(usage_of(answer))
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.getheader("Content-Type") or "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
            connection.close()

        do_GET = do_POST = forward

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}{there.path}"


class Set:
    """Passages of four articles, and what is right of them."""

    def __init__(self, path, n_rows):
        by_title = {}
        for line in open(path, encoding="utf-8"):
            row = json.loads(line)
            by_title.setdefault(row["title"], []).append(row)
        titles = [title for title, rows in by_title.items() if len(rows) >= n_rows // 4][:4]
        if len(titles) < 4:
            sys.exit(f"{path}: four articles of {n_rows // 4} passages are needed, there are {len(titles)}")
        self.titles = titles
        self.rows = [row for title in titles for row in by_title[title][: n_rows // 4]]
        self.subject = titles[0]
        self.asked = self.rows[n_rows // 2]
        self.question = self.asked["questions"][0]["question"]
        # The edit: a passage becomes another of its article.
        self.edited = self.rows[1]
        self.edit = by_title[self.edited["title"]][n_rows // 4]["text"]

    def quality(self, task, result):
        """What share is right: F1 of a filter or a join, whether the passage is among the first, groups that are named."""
        if task == "filter":
            return f1(result, {row["id"] for row in self.rows if row["title"] == self.subject})
        if task == "join":
            return f1(result, {(row["id"], row["title"]) for row in self.rows})
        if task == "topk":
            return float(self.asked["id"] in result)
        words = lambda title: [word for word in title.lower().split() if len(word) > 3]
        named = [any(word in result.get(title, "").lower() for word in words(title)) for title in self.titles]
        return sum(named) / len(named)


def f1(found, right):
    n_both = len(found & right)
    return 2 * n_both / max(len(found) + len(right), 1)


class Lotus:
    def __init__(self, url, model):
        try:
            import sentence_transformers  # noqa: F401
        except ImportError:
            # LOTUS names its classes when it is imported; nothing here embeds.
            stand_in = types.ModuleType("sentence_transformers")
            stand_in.SentenceTransformer = stand_in.CrossEncoder = object
            sys.modules["sentence_transformers"] = stand_in
            sys.modules.setdefault("torch", types.ModuleType("torch"))
        # A list of prices on the network is not needed.
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        import lotus
        from lotus.cache import CacheConfig, CacheFactory, CacheType
        from lotus.models import LM

        cache = CacheFactory.create_cache(CacheConfig(CacheType.IN_MEMORY, max_size=100_000))
        model = LM(model=f"openai/{model}", api_base=url, api_key="none", max_ctx_len=8192, max_tokens=64,
                   max_batch_size=1, cache=cache)
        lotus.settings.configure(lm=model, enable_cache=True)

    def run(self, task, of, rows):
        import pandas as pd

        passages = pd.DataFrame([{"id": row["id"], "title": row["title"], "text": row["text"]} for row in rows])
        if task == "filter":
            kept = passages.sem_filter(f"The passage {{text}} is about the subject {of.subject}.")
            return set(kept["id"])
        if task == "join":
            subjects = pd.DataFrame({"subject": of.titles})
            pairs = passages.sem_join(subjects, "The passage {text:left} is about the subject {subject:right}.")
            return set(zip(pairs["id"], pairs["subject"]))
        if task == "topk":
            first = passages.sem_topk(f"Which {{text}} answers this question better: {of.question}", K=K)
            return set(first["id"])
        named = passages.sem_agg("Name in one sentence the subject that all of {text} are about.", group_by=["title"])
        return {row["title"]: str(row["_output"]) for _, row in named.iterrows()}


class Perennial:
    """A server of its own for each task."""

    def __init__(self, program, model):
        self.program, self.model = program, model

    def __enter__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        script = tempfile.NamedTemporaryFile("w", suffix=".sql")
        script.write("CREATE TABLE passages (key TEXT, title TEXT, text TEXT);\n"
                     "CREATE TABLE subjects (key TEXT, name TEXT);\n")
        script.flush()
        command = [self.program, "serve", "--listen", f"127.0.0.1:{self.port}", "--model", self.model, script.name]
        self.server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self.sql("SELECT count(*) FROM passages")
                return self
            except OSError:
                if time.monotonic() > until or self.server.poll() is not None:
                    sys.exit(f"{' '.join(command)} does not listen")
                time.sleep(0.1)

    def __exit__(self, *_):
        self.server.terminate()
        self.server.wait()

    def sql(self, text):
        body = json.dumps({"sql": text}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/sql", body,
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=LONGEST) as reply:
            return json.load(reply)["outcomes"][-1]

    def load(self, of):
        rows = ", ".join(f"({quoted(row['id'])}, {quoted(row['title'])}, {quoted(row['text'])})" for row in of.rows)
        names = ", ".join(f"({quoted(title)}, {quoted(title)})" for title in of.titles)
        self.sql(f"INSERT INTO passages VALUES {rows}; INSERT INTO subjects VALUES {names}")

    def declare(self, task, of):
        text = (HERE / f"{task}.sql").read_text()
        # What stands in braces and names no column is of the set.
        text = text.replace("{subject}", quoted(of.subject)[1:-1]).replace("{question}", quoted(of.question)[1:-1])
        self.sql(text)

    def result(self, task):
        view = {"filter": "filtered", "join": "joined", "topk": "first", "agg": "named"}[task]
        # It waits until what was said before is visible, for a minute, and says so where it is not.
        while True:
            try:
                selected = self.sql(f"SELECT * FROM {view}")
            except urllib.error.HTTPError as error:
                if error.code not in (429, 503):
                    raise
                time.sleep(1)
                continue
            if not any("not all visible" in notice for notice in selected["notices"]):
                rows = selected["rows"]
                break
        if task == "join":
            return {(row["key"], row["subject"]) for row in rows}
        if task == "agg":
            return {row["title"]: row["name"] or "" for row in rows}
        return {row["key"] for row in rows}

    def edit(self, key, text):
        self.sql(f"UPDATE passages SET text = {quoted(text)} WHERE key = {quoted(key)}")


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def told(task, side, when, quality, counts, seconds):
    n_calls, n_read, n_written = counts
    print(f"| {task} | {side} | {when} | {quality:.2f} | {n_calls} | {n_read} | {n_written} | {seconds:.1f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--url", required=True, help="of the server that both ask, ending in /v1")
    parser.add_argument("--model", required=True, help="its name there")
    parser.add_argument("--perennial", default="target/release/perennial")
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--tasks", nargs="*", default=TASKS, choices=TASKS)
    parser.add_argument("--sides", nargs="*", default=["lotus", "perennial"], choices=["lotus", "perennial"])
    given = parser.parse_args()
    of, meter = Set(given.data, given.rows), Meter()
    url = proxy(given.url, meter)
    after = [dict(row, text=of.edit) if row["id"] == of.edited["id"] else row for row in of.rows]
    print(f"{len(of.rows)} passages of {', '.join(of.titles)}; {given.model}\n")
    print("| task | side | when | quality | calls | tokens read | written | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    if "lotus" in given.sides:
        lotus = Lotus(url, given.model)
        for task in given.tasks:
            for when, rows in [("first", of.rows), ("after one edit", after)]:
                meter.take()
                begin = time.monotonic()
                result = lotus.run(task, of, rows)
                told(task, "LOTUS", when, of.quality(task, result), meter.take(), time.monotonic() - begin)
    if "perennial" in given.sides:
        for task in given.tasks:
            with Perennial(given.perennial, f"{url}#{given.model}") as perennial:
                perennial.load(of)
                meter.take()
                begin = time.monotonic()
                perennial.declare(task, of)
                result = perennial.result(task)
                told(task, "Perennial", "first", of.quality(task, result), meter.take(), time.monotonic() - begin)
                begin = time.monotonic()
                perennial.edit(of.edited["id"], of.edit)
                result = perennial.result(task)
                told(task, "Perennial", "after one edit", of.quality(task, result), meter.take(),
                     time.monotonic() - begin)


if __name__ == "__main__":
    main()
