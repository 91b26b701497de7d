"""A client of Perennial: LLM views that stay fresh.

``Client`` blocks, ``AsyncClient`` awaits; both say the same. See the README beside this package,
and ``docs/serve.md`` of the server for what each request does.
"""

from ._async import AsyncClient
from ._errors import (
    Ended,
    NotAllowed,
    NotFound,
    NothingAccepted,
    NotUnderstood,
    PerennialError,
    Refused,
    Rejected,
    StatementFailed,
    Unavailable,
    Unreachable,
)
from ._events import (
    Answer,
    Citation,
    End,
    Epoch,
    Event,
    Notice,
    Other,
    Progress,
    Reset,
    Row,
    Snapshot,
    Started,
    SubParagraph,
    UpToDate,
    Work,
)
from ._records import Delete, Receipt, Upsert, Visibility
from ._state import Update, ViewState
from ._sync import Client

__all__ = [
    "Answer",
    "AsyncClient",
    "Citation",
    "Client",
    "Delete",
    "End",
    "Ended",
    "Epoch",
    "Event",
    "NotAllowed",
    "NotFound",
    "NotUnderstood",
    "NothingAccepted",
    "Notice",
    "Other",
    "PerennialError",
    "Progress",
    "Receipt",
    "Refused",
    "Rejected",
    "Reset",
    "Row",
    "Snapshot",
    "Started",
    "StatementFailed",
    "SubParagraph",
    "Unavailable",
    "Unreachable",
    "UpToDate",
    "Update",
    "Upsert",
    "ViewState",
    "Visibility",
    "Work",
]
