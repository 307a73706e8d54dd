"""docs/reference/tamperings.md, drawn from the tables that both verifiers are tested with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tests.support.forgeries import FORGERIES, Forgery
from tests.support.misdeeds import MISDEEDS
from tests.support.root_rows import ROOTS, SCHEME_ROWS, SUCCESSORS
from tests.support.tampering_rows import ANY_BYTES, LOG_KEYS, SIGNED
from tests.support.tamperings import Tampering

__all__ = ["render_tamperings"]

_HEAD = (
    "# What both verifiers find",
    "",
    "Made by `make docs` from `tests/support/tampering_rows.py`, `root_rows.py` and `misdeeds.py`. Each row is",
    "done to a genuine dossier and shown to `gatelift verify` and to `verifier/gatelift_verify.py`, with the",
    "anchor; both must find it by this code (`tests/integration/test_dossier_tampering.py`,",
    "`test_dossier_schemes.py`, `test_dossier_wrongdoing.py`). Codes are explained in [dossier.md](dossier.md).",
)
_FORGED = (
    "",
    "## A dossier made from nothing",
    "",
    "Somebody makes people, keys, logs and records of their own, under the same names. Every check that",
    "needs no anchor holds, and nothing more: no forgery ends with 0, by either verifier",
    "(`tests/integration/test_dossier_forged.py`).",
    "",
    "| dossier and anchor | exit | found as |",
    "|---|---|---|",
)
_MISDEEDS = (
    "",
    "## Done wrong, and signed",
    "",
    "By the operator, with all keys of the deployment but other people's. Every byte is genuine.",
    "",
    "| what was done | `gatelift verify` | `gatelift_verify.py` |",
    "|---|---|---|",
)


def _rows(title: str, who: str, table: Iterable[Tampering]) -> Iterator[str]:
    yield from (
        "",
        f"## {title}",
        "",
        who,
        "",
        "| what is done | exit | found as |",
        "|---|---|---|",
    )
    for row in table:
        found = f"`{row.code}`" if row.code else "the code of the layer that refuses"
        yield f"| {row.what} | {row.exit_code} | {f'not found: {row.why_not}' if row.why_not else found} |"


def _forgery(row: Forgery) -> str:
    codes = " or ".join(f"`{code}`" for code in row.codes) or "-"
    return f"| {row.what} | {row.exit_code} | {codes} |"


def render_tamperings() -> str:
    """Return docs/reference/tamperings.md."""
    misdeeds = (
        f"| {row.what} | `{row.code}` | {f'`{row.by_file}`' if row.by_file else 'not judged'} |"
        for row in MISDEEDS
    )
    lines = (
        *_HEAD,
        *_rows("Bytes altered", "By somebody who holds no key.", ANY_BYTES),
        *_rows(
            "Logs written anew",
            "By somebody who holds the keys of the releases log and of its witness, and nobody else's.",
            LOG_KEYS,
        ),
        *_rows(
            "Signed against the rules",
            "By the same, who also got people to sign with their own keys what they should not have signed.",
            SIGNED,
        ),
        *_rows(
            "Roots against the rules",
            "`root.json` is another one, which says what no root may say. Its root role signed it.",
            ROOTS,
        ),
        *_rows(
            "Successors against the rules",
            "The log goes on to a root that does not follow from the one before it.",
            SUCCESSORS,
        ),
        *_rows(
            "Signatures of every scheme",
            "People of one deployment sign by all four [schemes](signatures.md). As they should, its dossier "
            "ends with 0.",
            SCHEME_ROWS,
        ),
        *_FORGED,
        *(_forgery(row) for row in FORGERIES),
        *_MISDEEDS,
        *misdeeds,
    )
    return "\n".join(lines) + "\n"
