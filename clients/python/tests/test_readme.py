"""What the README says is so."""

from __future__ import annotations

import re
from pathlib import Path

import perennial_client as perennial

PACKAGE = Path(__file__).parents[1]
README = (PACKAGE / "README.md").read_text(encoding="utf-8")


def test_its_example_follows_a_view_that_it_serves() -> None:
    served = re.search(r"perennial serve (\S+)", README)
    followed = re.search(r"follow\(\"(\w+)\"\)", README)
    assert served is not None and followed is not None
    script = (PACKAGE.parents[1] / served[1]).read_text(encoding="utf-8")
    assert f"VIEW {followed[1]} AS" in script


def test_what_it_names_is_there() -> None:
    spans = re.findall(r"`([^`\n]+)`", README)
    calls = {name for span in spans for name in re.findall(r"(?<!\.)\b(\w+)\(", span)}
    names = {span for span in spans if re.fullmatch(r"[A-Z][A-Za-z]+", span)}
    assert "follow" in calls and "Ended" in names
    for name in calls | names:
        assert hasattr(perennial.Client, name) or hasattr(perennial, name), name
