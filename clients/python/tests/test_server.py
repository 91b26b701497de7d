"""The client and a real server: the program, over tables and views that ask no model, and the small
model where an answer is wanted. Weights come by themselves."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import perennial_client as perennial

HERE = Path(__file__).parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parents[2] / "target"))
PROGRAM = Path(os.environ.get("PERENNIAL", TARGET / "release/perennial"))
#: Seconds that the server may take to start, weights included, and to end.
PATIENCE = 300
SCRIPT = """
CREATE TABLE notes (key TEXT, text TEXT, room TEXT);
CREATE TABLE questions (key TEXT, text TEXT);
CREATE VIEW rooms AS SELECT room, count(*) AS n FROM notes GROUP BY room;
CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(
  CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(notes)) WITH (MAX_TOKENS = 24);
"""


class Server:
    """The program, which can be ended and started again over the same state."""

    def __init__(self, folder: Path, *options: str) -> None:
        if not PROGRAM.exists():
            pytest.fail(f"{PROGRAM} is not there: cargo build --release, or set PERENNIAL")
        self.folder = folder
        self.options = options
        self.listen = "127.0.0.1:0"
        self.process: subprocess.Popen[bytes] | None = None
        (folder / "app.sql").write_text(SCRIPT)

    def start(self) -> None:
        command = [str(PROGRAM), "serve", "--model", "smollm2-135m", "--listen", self.listen]
        command += ["--state", str(self.folder / "state"), *self.options]
        command += [str(self.folder / "app.sql")]
        log = self.folder / "log"

        def said() -> str:
            return log.read_text(encoding="utf-8", errors="replace")

        with log.open("wb") as stderr:
            self.process = subprocess.Popen(command, stderr=stderr)
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            if found := re.search(r"serving at http://(\S+)\n", said()):
                # Whoever was connected finds it again there.
                self.listen = found[1]
                return
            time.sleep(0.05)
        self.kill()
        pytest.fail("the server did not start: " + said())

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def end(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=PATIENCE) == 0

    @property
    def url(self) -> str:
        return f"http://{self.listen}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


#: Two tokens, which may look, and one that may write, too.
FIRST, SECOND = "0b1f6f4d8a3e47f3a1c5e7d9f2b4c6e8", "5f0c7c1e0a6b4c27a7e5d3f1b9b0c2d4"
WRITER = "9d2a41c07be84f6b8e13aa5f60c7d2f9"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Server]:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"read {FIRST}\nread {SECOND}\nread,write {WRITER}\n")
    server = Server(tmp_path, "--token-file", str(tokens))
    server.start()
    yield server
    server.kill()


def note(key: str, room: str) -> perennial.Upsert:
    return perennial.Upsert(key, f"A note of {room}.", columns={"room": room})


def counts(update: perennial.Update) -> dict[str, int]:
    return {row["room"]: row["n"] for row, _ in update.rows}


@pytest.mark.parametrize("end", [Server.kill, Server.end])
def test_what_is_fed_is_seen_however_the_server_ends(
    server: Server, end: Callable[[Server], None]
) -> None:
    with perennial.Client(server.url) as client:
        updates = client.follow("rooms")
        receipt = client.post("notes", [note("a", "hall"), note("b", "hall")], wait=60)
        assert receipt.is_visible and receipt.n_accepted == 2
        seen = next(update for update in updates if update.rows)
        assert counts(seen) == {"hall": 2}

        end(server)
        server.start()
        client.post("notes", [perennial.Delete("a"), note("c", "attic")], wait=60)
        seen = next(update for update in updates if "attic" in counts(update))
        assert counts(seen) == {"hall": 1, "attic": 1}
        assert client.query("SELECT room, n FROM rooms ORDER BY room") == [
            {"room": "attic", "n": 1},
            {"room": "hall", "n": 1},
        ]
        server.end()


def test_an_answer_follows_its_documents(server: Server) -> None:
    async def followed() -> list[str]:
        texts: list[str] = []
        async with perennial.AsyncClient(server.url) as client:
            await client.upsert("notes", "fare", "A ferry ticket costs 12 crowns.", room="pier")
            await client.upsert("questions", "q", "What does a ferry ticket cost?", wait=60)
            corrected = False
            async for update in client.follow("answers"):
                answer = update.answers.get("q")
                if answer is None or answer.text is None:
                    continue
                texts.append(answer.text)
                assert answer.sub_paragraphs[0].sources[0].document == "fare"
                if corrected and "14" in answer.text:
                    break
                if not corrected:
                    corrected = True
                    text = "A ferry ticket costs 14 crowns."
                    await client.upsert("notes", "fare", text, room="pier")
            lineage = await client.lineage("answers", "q")
            assert lineage["passages"][0]["text"].startswith("A ferry ticket costs 14")
        return texts

    texts = asyncio.run(asyncio.wait_for(followed(), 300))
    assert "12" in texts[0] and "14" in texts[-1]


def test_refusals_say_what_to_do(server: Server) -> None:
    with perennial.Client(server.url) as client:
        with pytest.raises(perennial.NotFound) as missing:
            client.view("answrs")
        assert missing.value.hint is not None and "answers" in missing.value.hint
        with pytest.raises(perennial.StatementFailed) as failed:
            client.sql("SELECT key FROM notes;\nSELECT key FROM nots")
        assert failed.value.line == 2 and not failed.value.outcomes
        with pytest.raises(perennial.StatementFailed) as wrong:
            client.sql("SELECT key FROM notes;\n  SELEC 1")
        assert wrong.value.line == 2 and not wrong.value.outcomes
        receipt = client.post("notes", [note("b", "hall")], wait=0.5)
        assert receipt.token is not None and client.visible(receipt.token, wait=59.5).is_visible
        with pytest.raises(perennial.NothingAccepted) as none:
            client.post("notes", [{"text": "no key"}, {"txt": "no record"}], wait=60)
        assert none.value.n_rejected == 2 and none.value.rejected[0].line == 1


def test_a_token_is_asked_for(guarded: Server) -> None:
    with perennial.Client(guarded.url) as client, pytest.raises(perennial.NotAllowed):
        client.relations()
    with perennial.Client(guarded.url, token=FIRST) as client:
        assert {one["name"] for one in client.relations()} >= {"notes", "rooms"}
        with pytest.raises(perennial.NotAllowed):
            client.upsert("notes", "k", "not allowed")


def test_who_follows_is_told_that_the_token_is_taken_back(guarded: Server) -> None:
    async def followed() -> None:
        async with perennial.AsyncClient(guarded.url, token=WRITER) as client:
            await client.upsert("notes", "a", "A note.", room="hall", wait=60)
            async for _ in client.follow("rooms"):
                (guarded.folder / "tokens").write_text(f"read {SECOND}\n")

    with pytest.raises(perennial.NotAllowed):
        asyncio.run(asyncio.wait_for(followed(), PATIENCE))
