"""A person's desk: keys from files or an agent, what the release is now, a signature, and where it goes.

Invariants
- What is signed is made here, on the signer's machine, with the signer's clock and entropy; control
  receives finished envelopes only.
- With `--out` nothing is submitted: the envelope is written, to be carried by hand (`submit`).
- Everything that a command prints about an envelope is read back from its bytes.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from gatelift.cli.admin_client import AdminClient
from gatelift.cli.errors import AdminUnreachableError, InputError
from gatelift.cli.output import facts, say, show
from gatelift.encoding import ID_ENTROPY_BYTES, Digest, make_id, parse_digest, sha256_digest
from gatelift.trust import STATEMENT_TYPE, MessageSigner, Subject, encode_statement, sign_envelope
from gatelift.wire.files import replace_durably
from gatelift.wire.signers import load_signer

__all__ = [
    "AdminOption",
    "Desk",
    "KeysOption",
    "OutOption",
    "TokenOption",
    "load_keys",
    "new_id",
    "now_ms",
    "show_sent",
    "sign_statement",
]

_COSIGNED_TIMEOUT_S = 10.0
KeysOption = Annotated[
    list[Path],
    typer.Option(
        "--key",
        "--ssh-key",
        help="Key file, SSH FILE.pub (agent), or a card (token, passkey); once for each signer.",
        show_default=False,
    ),
]
AdminOption = Annotated[
    str | None,
    typer.Option(
        "--admin", envvar="GATELIFT_ADMIN", help="Admin API, such as http://127.0.0.1:8081."
    ),
]
TokenOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file", envvar="GATELIFT_TOKEN_FILE", help="File with an admin token (mode 0600)."
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Write the signed envelope here instead of submitting it."),
]


def now_ms() -> int:
    """Return the time in milliseconds UTC."""
    return time.time_ns() // 1_000_000


def new_id(kind: str) -> str:
    """Return a fresh id of a kind."""
    return make_id(kind, now_ms(), secrets.token_bytes(ID_ENTROPY_BYTES))


def load_keys(paths: Sequence[Path]) -> list[MessageSigner]:
    """Return the keys of files; raises `InputError` for none, `KeyFileError` for a bad one."""
    if not paths:
        raise InputError(
            "expected --key FILE (or --ssh-key FILE.pub), the key that signs; got none"
        )
    return [load_signer(path) for path in paths]


def sign_statement(
    kind: str, predicate: msgspec.Struct, subject: Subject, keys: Sequence[MessageSigner]
) -> bytes:
    """Return the envelope of a statement of `kind`, signed by all keys."""
    payload = encode_statement(kind, (subject,), predicate)
    return sign_envelope(payload, STATEMENT_TYPE, keys)


class Desk:
    """One command's view of a deployment's control."""

    def __init__(self, admin: str | None, token_file: Path | None) -> None:
        self._admin = admin
        self._token_file = token_file
        self._client: AdminClient | None = None
        self._state: dict[str, Any] | None = None

    @property
    def client(self) -> AdminClient:
        """The admin API; raises `InputError` when no address was given."""
        if self._client is None:
            if self._admin is None:
                raise InputError("expected --admin URL (or GATELIFT_ADMIN): where control answers")
            self._client = AdminClient.with_token_file(self._admin, self._token_file)
        return self._client

    @property
    def state(self) -> dict[str, Any]:
        """What control says the release's state is, asked once."""
        if self._state is None:
            self._state = self.client.get("/state")
        return self._state

    @property
    def release(self) -> str:
        """The release's name."""
        return self._adopted("release")

    @property
    def plan_digest(self) -> Digest:
        """The digest of the adopted plan."""
        return parse_digest(self._adopted("plan_digest"))

    @property
    def fingerprint(self) -> Digest:
        """The fingerprint of the candidate in force."""
        return parse_digest(self._adopted("fingerprint"))

    @property
    def subject(self) -> Subject:
        """What people's statements are about: the candidate."""
        return Subject(name=f"candidate:{self.release}", digest=self.fingerprint)

    def wait_until_cosigned(self) -> None:
        """Wait until witnesses have cosigned all that the log held when it was first asked."""
        size = self.state["size"]
        until = time.monotonic() + _COSIGNED_TIMEOUT_S
        while (self.state["checkpoint"] or {"size": 0})["size"] < size:
            if time.monotonic() >= until:
                raise AdminUnreachableError(
                    f"no cosigned head of {size} entries within {_COSIGNED_TIMEOUT_S:g} s: "
                    f"{self.state['witness_problem'] or 'is the witness running?'}",
                    code="not_cosigned",
                )
            time.sleep(0.1)
            self._state = self.client.get("/state")

    def file(self, digest: Digest) -> bytes:
        """Return bytes by digest, checked against it."""
        data = self.client.get_bytes(f"/files/{digest.removeprefix('sha256:')}")
        if sha256_digest(data) != digest:
            raise InputError(f"control sent other bytes than {digest}: do not sign", code="swapped")
        return data

    def _adopted(self, name: str) -> str:
        value = self.state.get(name)
        if not isinstance(value, str):
            raise InputError(
                f"the log has no {name} yet: adopt a plan first (`gatelift plan adopt`)",
                code="no_plan",
            )
        return value

    def send(
        self,
        kind: str,
        envelope: bytes,
        *,
        out: Path | None = None,
        attachments: tuple[bytes, ...] = (),
        cosigned: bool = False,
        expected_size: int | None = None,
    ) -> dict[str, Any]:
        """Submit an envelope, or write it to `out`; return what happened, ready to be shown."""
        result: dict[str, Any] = {"ok": True, "kind": kind, "digest": sha256_digest(envelope)}
        if out is not None:
            replace_durably(out, envelope)
            return result | {"out": str(out), "submitted": False}
        answer = self.client.post_entry(
            kind,
            envelope,
            attachments=attachments,
            cosigned=cosigned,
            expected_size=expected_size,
        )
        return result | {"submitted": True} | answer


def show_sent(result: dict[str, Any], headline: str) -> None:
    """Print what became of an envelope."""

    def render() -> None:
        say(headline)
        rows: list[tuple[str, object]] = [("digest", result["digest"])]
        rows += [(name, result[name]) for name in ("id", "out") if name in result]
        if result.get("submitted"):
            rows.append(("entry", result.get("index", "follows: the keeper reports it")))
            if result.get("cosigned"):
                rows.append(("cosigned", "yes"))
            held = result.get("decision")
            if isinstance(held, dict):
                rows.append(("decision", f"{held['decision']['kind']} (entry {held['index']})"))
        elif not result.get("dropped") and not result.get("listed"):
            rows.append(("next", f"gatelift submit {result.get('out')} --admin URL"))
        facts(rows)

    show(result, render)
