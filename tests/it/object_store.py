"""The part of S3 that a broker keeps its topics in, for as long as the test lasts.

    object_store.py    > the port that it listens to

Objects are kept in memory; conditions on entity tags are held, since brokers build on them.
"""

import hashlib
import itertools
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

OBJECTS = {}
LOCK = threading.Lock()
VERSION = itertools.count()
DATE = "Wed, 01 May 2024 12:34:56 GMT"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def target(self):
        url = urlsplit(self.path)
        _, _, key = unquote(url.path).lstrip("/").partition("/")
        return key, parse_qs(url.query, keep_blank_values=True)

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while n_bytes := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(n_bytes))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def do_PUT(self):
        key, _ = self.target()
        body = self.body()
        with LOCK:
            old = OBJECTS.get(key)
            match = self.headers.get("If-Match")
            if match and (old is None or old[1] != match):
                return self.answer(412)
            if self.headers.get("If-None-Match") == "*" and old:
                return self.answer(412)
            tag = hashlib.md5(body + str(next(VERSION)).encode()).hexdigest()
            OBJECTS[key] = (body, f'"{tag}"')
            return self.answer(200, headers=[("ETag", OBJECTS[key][1])])

    def do_GET(self):
        key, query = self.target()
        if not key:
            return self.list(query)
        with LOCK:
            found = OBJECTS.get(key)
        if found is None:
            return self.answer(404)
        body, tag = found
        headers = [("ETag", tag), ("Last-Modified", DATE)]
        if self.headers.get("If-None-Match") == tag:
            return self.answer(304, headers=headers)
        span = self.headers.get("Range", "")
        if span.startswith("bytes="):
            first, _, last = span[len("bytes=") :].partition("-")
            start = int(first) if first else max(0, len(body) - int(last))
            end = min(int(last), len(body) - 1) if first and last else len(body) - 1
            headers.append(("Content-Range", f"bytes {start}-{end}/{len(body)}"))
            return self.answer(206, body[start : end + 1], headers)
        return self.answer(200, body, headers)

    do_HEAD = do_GET

    def do_DELETE(self):
        key, _ = self.target()
        with LOCK:
            OBJECTS.pop(key, None)
        self.answer(204)

    def do_POST(self):
        """Deletes several at once."""
        body = self.body().decode()
        keys = [part.partition("</Key>")[0] for part in body.split("<Key>")[1:]]
        with LOCK:
            for key in keys:
                OBJECTS.pop(key, None)
        deleted = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        self.answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def list(self, query):
        prefix = query.get("prefix", [""])[0]
        delimiter = query.get("delimiter", [""])[0]
        after = query.get("start-after", [""])[0]
        found, prefixes = [], set()
        with LOCK:
            objects = sorted(OBJECTS.items())
        for key, (body, tag) in objects:
            if not key.startswith(prefix) or key <= after:
                continue
            head, cut, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            if cut:
                prefixes.add(prefix + head + cut)
                continue
            found.append(
                f"<Contents><Key>{escape(key)}</Key><Size>{len(body)}</Size>"
                f"<ETag>{escape(tag)}</ETag><LastModified>2024-05-01T12:34:56.000Z</LastModified>"
                "</Contents>"
            )
        common = "".join(
            f"<CommonPrefixes><Prefix>{escape(p)}</Prefix></CommonPrefixes>" for p in sorted(prefixes)
        )
        body = f"<ListBucketResult>{''.join(found)}{common}<IsTruncated>false</IsTruncated></ListBucketResult>"
        self.answer(200, body.encode())


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
# It ends with the test: then its standard input is closed.
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
