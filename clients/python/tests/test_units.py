"""What the client does with what it is told, without a server."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certifi
import httpx
import pytest

import perennial_client as perennial
from perennial_client import _requests, _sync
from perennial_client._events import parse

sys.path.insert(0, str(Path(__file__).parent.parent))
import blocking  # noqa: E402


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_requests, "PAUSES", (0.0, 0.001))


def said(event: str, **fields: Any) -> str:
    return json.dumps({"event": event, **fields}) + "\n"


def answer(key: str, epoch: int, text: str | None, change: str = "changed") -> str:
    return said("answer", key=key, epoch=epoch, text=text, change=change)


SNAPSHOT = said("snapshot", view="v", kind="answers", epoch=1, n_rows=1)


class Server:
    """Replies to each subscription with the next of these texts; remembers what was asked."""

    def __init__(self, *replies: str | httpx.Response) -> None:
        self.replies: Iterator[str | httpx.Response] = iter(replies)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        reply = next(self.replies)
        return httpx.Response(200, text=reply) if isinstance(reply, str) else reply

    def client(self) -> perennial.Client:
        return perennial.Client("http://server", token="t0", transport=httpx.MockTransport(self))


END = said("end", reason="the view was dropped", code="dropped")
SERVER_ENDS = said("end", reason="the server ends", code="server_ends")


def followed(server: Server) -> list[perennial.Update]:
    updates = []
    with pytest.raises(perennial.Ended):
        for update in server.client().follow("v"):
            updates.append(update)
    return updates


def test_the_blocking_client_is_written_from_the_other() -> None:
    text = Path(_sync.__file__).read_text(encoding="utf-8")
    assert text == blocking.blocking(), "run blocking.py"


def test_a_view_is_told_by_whole_epochs() -> None:
    server = Server(
        SNAPSHOT
        + answer("a", 1, "one", "new")
        + said("up_to_date", id="o.1", epoch=1)
        + answer("a", 2, "two")
        + answer("b", 2, "zwei", "new")
        + said("epoch", id="o.2", epoch=2, n_changes=2)
        + answer("a", 3, None, "gone")
        + said("epoch", id="o.3", epoch=3, n_changes=1)
        + END
    )
    texts = [{key: one.text for key, one in up.answers.items()} for up in followed(server)]
    assert texts == [{"a": "one"}, {"a": "two", "b": "zwei"}, {"b": "zwei"}]


def test_a_lost_connection_is_gone_on_with_and_half_an_epoch_is_not_told() -> None:
    server = Server(
        SNAPSHOT
        + answer("a", 1, "one", "new")
        + said("up_to_date", id="o.1", epoch=1)
        + answer("a", 2, "two")
        + '{"event": "answ',
        httpx.Response(503, json={"error": "ending"}, headers={"retry-after": "0"}),
        answer("a", 3, "three") + said("up_to_date", id="o.3", epoch=3) + END,
    )
    updates = followed(server)
    assert [up.answers["a"].text for up in updates] == ["one", "three"]
    assert [up.is_snapshot for up in updates] == [True, False]
    assert [request.url.params.get("as_of") for request in server.asked] == [None, "o.1", "o.1"]
    assert {request.headers["authorization"] for request in server.asked} == {"Bearer t0"}


def test_a_server_that_ends_is_gone_on_with_at_the_next() -> None:
    server = Server(
        SNAPSHOT
        + answer("a", 1, "one", "new")
        + said("up_to_date", id="o.1", epoch=1)
        + answer("a", 2, "two")
        + SERVER_ENDS,
        httpx.Response(503, json={"error": "ending"}, headers={"retry-after": "0"}),
        SERVER_ENDS,
        answer("a", 3, "three") + said("up_to_date", id="o.3", epoch=3) + END,
    )
    assert [up.answers["a"].text for up in followed(server)] == ["one", "three"]
    asked_from = [request.url.params.get("as_of") for request in server.asked]
    assert asked_from == [None, "o.1", "o.1", "o.1"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"code": "dropped"}, "dropped"),
        ({"code": "failed"}, "failed"),
        ({"code": "of a newer server"}, "of a newer server"),
        # An older server has none.
        ({}, None),
    ],
)
def test_what_ends_for_good_says_why(fields: dict[str, str], code: str | None) -> None:
    server = Server(said("end", reason="it is over", **fields))
    with pytest.raises(perennial.Ended, match="it is over") as raised:
        list(server.client().subscribe("v"))
    assert (raised.value.reason, raised.value.code) == ("it is over", code)
    assert len(server.asked) == 1


def test_a_token_that_is_taken_back_is_a_right_that_is_refused() -> None:
    server = Server(SNAPSHOT + said("end", reason="the token was taken back", code="token"))
    with pytest.raises(perennial.NotAllowed, match="taken back"):
        list(server.client().subscribe("v"))
    assert len(server.asked) == 1


def test_a_reset_voids_what_was_held() -> None:
    server = Server(
        SNAPSHOT + answer("a", 1, "one", "new") + said("up_to_date", id="o.1", epoch=1),
        said("reset", reason="too long ago")
        + SNAPSHOT
        + answer("b", 9, "nine", "new")
        + said("up_to_date", id="p.9", epoch=9)
        + END,
    )
    assert [set(up.answers) for up in followed(server)] == [{"a"}, {"b"}]


def test_an_epoch_that_changed_nothing_is_not_told() -> None:
    server = Server(
        SNAPSHOT
        + answer("a", 1, "one", "new")
        + said("up_to_date", id="o.1", epoch=1)
        + said("epoch", id="o.2", epoch=2, n_changes=0),
        # What is gone on with has missed nothing.
        said("up_to_date", id="o.2", epoch=2)
        + answer("a", 3, "three")
        + said("epoch", id="o.3", epoch=3)
        + END,
    )
    assert [up.epoch for up in followed(server)] == [1, 3]
    assert server.asked[1].url.params["as_of"] == "o.2"
    # Who follows whole epochs has no use for what is told before they are complete.
    assert server.asked[0].url.params["early"] == "false"


def test_each_attempt_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(httpx.Response(503, json={"error": "the server is ending"}), END)
    assert followed(server) == []
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("perennial_client", "WARNING")
    assert record.getMessage().startswith("v: the server is ending; asking again in ")


def test_pauses_grow_until_an_epoch_was_told_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_requests, "PAUSES", (0.2, 10.0))
    monkeypatch.setattr("random.random", lambda: 1.0)
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    server = Server(
        # A snapshot that breaks off again and again is no success.
        *[SNAPSHOT] * 7,
        SNAPSHOT + said("up_to_date", id="o.1", epoch=1),
        httpx.Response(503, json={"error": "ending"}, headers={"retry-after": "5"}),
        httpx.Response(503, json={"error": "away"}, headers={"retry-after": "1" * 400}),
        httpx.Response(503, json={"error": "away"}, headers={"retry-after": "Wed, 21 Oct 2026"}),
        END,
    )
    assert len(followed(server)) == 1
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 0.2, 5.0, _requests.LONGEST_PAUSE, 1.6]


def test_a_view_that_is_not_read_on_gives_its_connection_back() -> None:
    class Endless(httpx.SyncByteStream):
        is_closed = False

        def __iter__(self) -> Iterator[bytes]:
            yield (SNAPSHOT + said("up_to_date", id="o.1", epoch=1)).encode()
            while True:
                yield b"\n"

        def close(self) -> None:
            self.is_closed = True

    told = Endless()
    with Server(httpx.Response(200, stream=told)).client() as client:
        updates = client.follow("v")
        assert next(updates).epoch == 1 and not told.is_closed
        updates.close()
        assert told.is_closed


def test_rows_are_counted() -> None:
    row = {"topic": "x", "n": 1}
    server = Server(
        said("snapshot", view="v", kind="query", epoch=1, n_rows=2)
        + said("row", epoch=1, count=2, row=row)
        + said("up_to_date", id="o.1", epoch=1)
        + said("row", epoch=2, count=-1, row=row)
        + said("epoch", id="o.2", epoch=2)
        + said("row", epoch=3, count=-1, row={"n": 1, "topic": "x"})
        + said("epoch", id="o.3", epoch=3)
        + END
    )
    assert [up.rows for up in followed(server)] == [((row, 2),), ((row, 1),), ()]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, perennial.Refused),
        (401, perennial.NotAllowed),
        (403, perennial.NotAllowed),
        (404, perennial.NotFound),
        (410, perennial.NotFound),
    ],
)
def test_what_is_refused_for_good_is_not_asked_again(
    status: int, kind: type[perennial.Refused]
) -> None:
    server = Server(httpx.Response(status, json={"error": "no", "hint": "do"}))
    with pytest.raises(kind, match=r"no \(do\)"):
        next(iter(server.client().subscribe("v")))
    assert len(server.asked) == 1


def test_a_failed_statement_has_its_place_and_what_was_done_before() -> None:
    told = {"error": "there is no relation nots", "line": 2, "column": 15, "outcomes": [{}]}
    server = Server(httpx.Response(400, json=told))
    with pytest.raises(perennial.StatementFailed, match="line 2, column 15: there") as raised:
        server.client().sql("…")
    assert (raised.value.line, raised.value.column, len(raised.value.outcomes)) == (2, 15, 1)


def test_a_text_that_is_no_statement_has_the_place_and_nothing_was_done() -> None:
    told = {"error": "no statement begins so", "hint": "", "line": 1, "column": 1}
    server = Server(httpx.Response(400, json={**told, "diagnostics": "…"}))
    with pytest.raises(perennial.StatementFailed) as raised:
        server.client().sql("SELEC 1")
    assert (raised.value.line, raised.value.column, raised.value.outcomes) == (1, 1, [])


def test_a_statement_without_a_place_has_what_was_done_before() -> None:
    told = {"error": "the result has 20000 rows", "hint": "add LIMIT", "outcomes": [{}, {}]}
    server = Server(httpx.Response(413, json=told))
    with pytest.raises(perennial.StatementFailed, match=r"^the result .* \(add LIMIT\)") as raised:
        server.client().sql("…")
    assert (raised.value.line, raised.value.status, len(raised.value.outcomes)) == (None, 413, 2)


@pytest.mark.parametrize(
    ("wait", "said"),
    [
        (0, None),
        (-1, None),
        (0.5, "1"),
        (1, "1"),
        (1.2, "2"),
        (60, "60"),
        (1e6, "60"),
        (float("inf"), "60"),
    ],
)
def test_the_server_waits_for_whole_seconds(wait: float, said: str | None) -> None:
    server = Server(
        httpx.Response(202, json={"accepted": 1, "rejected": [], "token": "docs.5.1"}),
        httpx.Response(200, json={"visible": False, "epoch": None}),
    )
    client = server.client()
    receipt = client.post("docs", [perennial.Delete("k")], wait=wait)
    assert receipt.token is not None
    client.visible(receipt.token, wait=wait)
    assert [request.url.params.get("wait") for request in server.asked] == [said, said]


def test_a_proxys_page_is_an_error_by_its_status() -> None:
    server = Server(httpx.Response(502, text="<html>Bad Gateway"))
    with pytest.raises(perennial.Unavailable, match="502"):
        server.client().status()


@pytest.mark.parametrize(
    "text", ["<html>Sign in", "[1]", "{}", "\xff", '{"accepted": 1, "rejected": 1}']
)
def test_what_is_no_reply_is_told_as_such(text: str) -> None:
    def sql(client: perennial.Client) -> object:
        return client.sql("SELECT 1")

    def post(client: perennial.Client) -> object:
        return client.post("docs", [])

    for call in (sql, perennial.Client.relations, post):
        server = Server(httpx.Response(200, content=text.encode("latin-1")))
        with pytest.raises(perennial.NotUnderstood):
            call(server.client())


def test_a_query_is_of_what_gives_rows() -> None:
    outcomes = [{"outcome": "done", "n_rows": 1}]
    server = Server(
        httpx.Response(200, json={"outcomes": [{"outcome": "rows", "rows": [{"n": 1}]}]}),
        httpx.Response(200, json={"outcomes": outcomes}),
    )
    assert server.client().query("SELECT 1 AS n") == [{"n": 1}]
    with pytest.raises(ValueError, match="gives no rows"):
        server.client().query("DELETE FROM notes")


@pytest.mark.parametrize("url", ["127.0.0.1:7070", "localhost", "ftp://server", ""])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="http"):
        perennial.Client(url)


@pytest.mark.parametrize("token", ["", "of a line\n", "two words", "tökèn"])
def test_a_token_that_no_header_holds_is_refused_and_not_told(token: str) -> None:
    with pytest.raises(ValueError, match="a token is") as raised:
        perennial.Client(token=token)
    assert not token or token not in str(raised.value)


def test_a_private_authority_is_named_by_a_path(recwarn: pytest.WarningsRecorder) -> None:
    for verify in (certifi.where(), Path(certifi.where())):
        perennial.Client("https://server", verify=verify).close()
    assert not recwarn.list
    with pytest.raises(FileNotFoundError):
        perennial.Client("https://server", verify="no.pem")


def test_a_request_that_breaks_is_an_error_of_this_package() -> None:
    packed = httpx.Response(200, content=iter([b"no gzip"]), headers={"content-encoding": "gzip"})

    def broken(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("status"):
            return packed
        raise httpx.ConnectError("refused", request=request)

    client = perennial.Client(transport=httpx.MockTransport(broken))
    for call in (client.status, client.relations):
        with pytest.raises(perennial.Unreachable):
            call()


def test_records_are_lines_and_what_is_rejected_is_told() -> None:
    told = {
        "accepted": 2,
        "rejected": [{"line": 3, "key": None, "reason": "not JSON"}],
        "n_rejected": 1,
        "token": "docs.5.1",
        "visible": True,
        "epoch": 7,
    }
    server = Server(httpx.Response(200, json=told))
    records: list[perennial.Upsert | perennial.Delete] = [
        perennial.Upsert("k1", "Eins.\nZwei.", title="T", columns={"room": 4}),
        perennial.Delete("k2"),
    ]
    receipt = server.client().post("a/b", records, wait=5)
    assert (receipt.n_accepted, receipt.rejected[0].line, receipt.is_visible) == (2, 3, True)
    request = server.asked[0]
    assert request.url.raw_path == b"/v1/streams/a%2Fb?wait=5"
    assert [json.loads(line) for line in request.content.splitlines()] == [
        {"key": "k1", "text": "Eins.\nZwei.", "title": "T", "room": 4},
        {"delete": {"key": "k2"}},
    ]


def test_a_text_in_no_encoding_is_sent_as_what_it_is() -> None:
    server = Server(httpx.Response(202, json={"accepted": 1, "rejected": [], "token": "docs.5.1"}))
    server.client().post("docs", [perennial.Upsert("k", "half \ud83d of a pair, é, \u2028")])
    line = server.asked[0].content
    assert line == '{"key": "k", "text": "half \\ud83d of a pair, é, \u2028"}\n'.encode()


def test_what_is_rejected_may_have_no_line() -> None:
    told = {"accepted": 1, "rejected": [{"line": None, "key": "k", "reason": "no"}]}
    left_out = [{"column": "txet", "n_records": 2}]
    server = Server(httpx.Response(202, json={**told, "left_out": left_out}))
    receipt = server.client().post("docs", [{"key": "k"}])
    (rejected,) = receipt.rejected
    assert (rejected.line, rejected.key, rejected.reason) == (None, "k", "no")
    assert receipt.left_out == {"txet": 2}


def test_nothing_accepted_is_an_exception_that_names_what_was_rejected() -> None:
    told = {
        "error": "nothing was accepted: line 1: no",
        "hint": "mend it",
        "accepted": 0,
        "rejected": [{"line": 1, "key": None, "reason": "no"}],
        "n_rejected": 1,
    }
    server = Server(httpx.Response(400, json=told))
    with pytest.raises(perennial.NothingAccepted, match="line 1: no") as raised:
        server.client().post("docs", [{"txt": "k"}])
    assert (raised.value.n_rejected, raised.value.rejected[0].reason) == (1, "no")


def test_unknown_events_and_fields_are_no_errors() -> None:
    assert parse(said("weather", sun=True))[1] == perennial.Other(
        "weather", {"event": "weather", "sun": True}
    )
    event = parse(said("up_to_date", id="o.1", epoch=1, more=[1]))
    assert event == ("o.1", perennial.UpToDate(1, "o.1"))


def test_a_subscription_goes_on_where_another_was() -> None:
    first = Server(
        SNAPSHOT + said("up_to_date", id="o.1", epoch=1) + said("epoch", id="o.2", epoch=2)
    )
    ids = []
    for event in first.client().subscribe("v"):
        if isinstance(event, (perennial.Epoch, perennial.UpToDate)):
            ids.append(event.id)
        if len(ids) == 2:
            break
    assert ids == ["o.1", "o.2"]
    second = Server(END)
    with pytest.raises(perennial.Ended):
        list(second.client().subscribe("v", last_id=ids[-1]))
    assert second.asked[0].url.params["as_of"] == "o.2"


#: Where `str.splitlines` breaks a line, and the server does not.
SEPARATORS = ["\u2028", "\u2029", "\x85"]


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_a_line_ends_at_a_line_feed_only(size: int) -> None:
    text = "".join(f"one{separator}two " for separator in SEPARATORS)
    event = {"event": "answer", "key": text, "epoch": 1, "text": text, "change": "new"}
    told = (
        SNAPSHOT
        + json.dumps(event, ensure_ascii=False)
        + "\n\n"
        + said("up_to_date", id="o.1", epoch=1)
        + END
    ).encode()
    pieces = (told[at : at + size] for at in range(0, len(told), size))
    server = Server(httpx.Response(200, content=pieces))
    (update,) = followed(server)
    assert update.answers[text].text == text
    assert len(server.asked) == 1


def test_no_more_is_held_of_a_line_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_requests, "LINE_BYTES", 1_000)
    n_read = 0

    def endless() -> Iterator[bytes]:
        nonlocal n_read
        yield SNAPSHOT.encode()
        while True:
            n_read += 1
            yield b"x" * 100

    server = Server(httpx.Response(200, content=endless()))
    with pytest.raises(perennial.NotUnderstood, match="longer than 1,000 bytes"):
        list(server.client().subscribe("v"))
    assert n_read == 11 and len(server.asked) == 1


@pytest.mark.parametrize(
    "line",
    [
        b"<html>We are down for maintenance.",
        b'{"event": "answ',
        b'{"no": "event"}',
        b'{"event": "answer", "key": "a"}',
        b'{"event": "answer", "key": "a", "epoch": 1, "work": [1]}',
        b'{"event": "epoch", "epoch": 1, "id": 7}',
        b'{"event": "notice", "message": "\xff"}',
        b"[]",
    ],
)
def test_a_whole_line_that_is_no_event_is_not_asked_for_again(line: bytes) -> None:
    server = Server(httpx.Response(200, content=line + b"\n"))
    with pytest.raises(perennial.NotUnderstood):
        list(server.client().subscribe("v"))
    assert len(server.asked) == 1


@pytest.mark.parametrize("seed", range(50))
def test_whatever_breaks_the_view_ends_as_it_stands(seed: int) -> None:
    """Connections break anywhere; the server goes on from the last id, as it promises."""
    random_ = random.Random(seed)
    epochs: list[dict[str, str]] = [{"a": "0"}]
    for n in range(1, 12):
        state = dict(epochs[-1])
        for _ in range(random_.randint(1, 3)):
            key = random_.choice("abc")
            if random_.random() < 0.3:
                state.pop(key, None)
            else:
                state[key] = f"{key}{n}"
        epochs.append(state)

    def reply(request: httpx.Request) -> httpx.Response:
        last = request.url.params.get("as_of")
        begin = None if last is None else int(last.split(".")[1])
        text = ""
        if begin is None:
            begin = random_.randrange(len(epochs))
            text += said("snapshot", view="v", kind="answers", epoch=begin, n_rows=1)
            for key, value in epochs[begin].items():
                text += answer(key, begin, value, "new")
            text += said("up_to_date", id=f"o.{begin}", epoch=begin)
        for epoch in range(begin + 1, len(epochs)):
            before, now = epochs[epoch - 1], epochs[epoch]
            for key in sorted(before.keys() | now.keys()):
                if before.get(key) != now.get(key):
                    gone = key not in now
                    text += answer(key, epoch, now.get(key), "gone" if gone else "changed")
            text += said("epoch", id=f"o.{epoch}", epoch=epoch)
        if random_.random() < 0.6:
            return httpx.Response(200, text=text[: random_.randrange(len(text) + 1)])
        if random_.random() < 0.3:
            return httpx.Response(200, text=text + SERVER_ENDS)
        return httpx.Response(200, text=text + END)

    client = perennial.Client(transport=httpx.MockTransport(reply))
    last: dict[str, str | None] = {}
    with pytest.raises(perennial.Ended):
        for update in client.follow("v"):
            last = {key: one.text for key, one in update.answers.items()}
            assert update.epoch is not None
            assert last == epochs[update.epoch]
    assert last == epochs[-1]
