"""What Schemathesis has no words for: bodies of lines of JSON, and replies that have no end."""

import json

import schemathesis
from hypothesis import strategies as st

texts = st.text(st.characters(codec="utf-8"), max_size=12)
values = st.one_of(texts, st.integers(), st.booleans(), st.none(), st.floats(), st.lists(texts, max_size=2))
columns = st.one_of(st.sampled_from(["key", "text", "title", "stars", "author"]), texts)
records = st.dictionaries(columns, values, max_size=4).map(json.dumps)
deletions = st.builds(lambda key: json.dumps({"delete": {"key": key}}), texts)
lines = st.one_of(records, deletions, texts)

schemathesis.openapi.media_type(
    "application/x-ndjson",
    st.builds(lambda first, rest: "\n".join([first, *rest]).encode(), records, st.lists(lines, max_size=3)),
)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Who is not told what stands waits for a change, and here is none."""
    is_subscription = case.operation.path.endswith("/subscribe")
    if is_subscription and (case.query or {}).get("snapshot") in (False, "false"):
        case.query["snapshot"] = True
