"""`gatelift root`: the next root of trust: drafted by one, signed by many, adopted by each host.

Invariants
- A draft is the root before it with a version more, and what was asked for; all else is kept.
- A host takes a root only as the signed successor of the one it has pinned: what is pinned is its
  memory, against which an older or another root fails. A keeper that runs takes it from the log.
- The pinned digest is written last.

A draft carries no signature (`sign` adds them) and nothing here holds a key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from gatelift.cli.desk import now_ms
from gatelift.cli.errors import InputError
from gatelift.cli.layout import Deployment, read_bytes
from gatelift.cli.output import JsonFlag, at_text, facts, say, show, table
from gatelift.cli.root_notices import announce_root, write_noticed
from gatelift.encoding import decode_json, sha256_digest
from gatelift.terms import parse_duration_ms
from gatelift.trust import (
    UNPROVEN,
    Key,
    KeyId,
    Person,
    Role,
    Root,
    Scheme,
    parse_root,
    unverified_root,
    verify_root,
)
from gatelift.wire.files import FileStore, replace_durably
from gatelift.wire.pinned_root import pin_root

__all__ = ["KeyEntry", "next_root", "root"]

root = typer.Typer(no_args_is_help=True, help="Draft, check and adopt the next root of trust.")
root.command("announce")(announce_root)
root.command("noticed")(write_noticed)
_FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A signed root.")]


class KeyEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a person hands in for a ceremony, as `keys show --json --person` prints it."""

    key_id: KeyId
    scheme: Scheme
    public: str
    person: str
    organisation: str
    proof: str = UNPROVEN
    rp_id: str | None = None

    def key(self) -> Key:
        """Return it as it stands in a root."""
        return Key(scheme=self.scheme, public=self.public, person=self.person, rp_id=self.rp_id)


def _people(before: Root, entries: list[KeyEntry], keys: dict[KeyId, Key]) -> tuple[Person, ...]:
    found = {person.id: person for person in before.people}
    for entry in entries:
        held = found.get(entry.person)
        if held is not None and held.organisation != entry.organisation:
            raise InputError(
                f"{entry.person!r} stands in {held.organisation!r}, not {entry.organisation!r}: "
                "one pseudonym is one person in one organisation"
            )
        proof = held.proof if held is not None and entry.proof == UNPROVEN else entry.proof
        found[entry.person] = Person(id=entry.person, organisation=entry.organisation, proof=proof)
    needed = {key.person for key in keys.values()}
    return tuple(person for name, person in sorted(found.items()) if name in needed)


def next_root(
    before: Root,
    *,
    roles: dict[str, list[KeyEntry]],
    removed: tuple[str, ...],
    thresholds: dict[str, int],
    now_ms: int,
    lasts_ms: int,
    own_calls: int | None = None,
) -> Root:
    """Return the draft that follows a root: `roles` are held by exactly these keys from now on.

    `own_calls` is how many calls of its own an overseer's organisation may make a day, null as before;
    without an overseer there are none.

    Raises `InputError`, or `RootError` if the draft would contradict itself.
    """
    held = dict(before.roles)
    keys = dict(before.keys)
    for name, entries in roles.items():
        old = before.roles.get(name)
        held[name] = Role(
            keys=tuple(entry.key_id for entry in entries),
            threshold=old.threshold if old is not None else 1,
        )
        keys |= {entry.key_id: entry.key() for entry in entries}
    if unknown := set(removed) - before.keys.keys():
        raise InputError(f"expected key ids of root {before.version}, got {sorted(unknown)}")
    for name, role in held.items():
        held[name] = msgspec.structs.replace(
            role,
            keys=tuple(kid for kid in role.keys if kid not in removed),
            threshold=thresholds.get(name, role.threshold),
        )
    if unknown := thresholds.keys() - held.keys():
        raise InputError(f"expected roles of the root, got {sorted(unknown)}")
    if own_calls is None:
        overseer = held.get("overseer")
        own_calls = before.own_calls_per_day if overseer is not None and overseer.keys else 0
    used = {kid for role in held.values() for kid in role.keys}
    keys = {kid: key for kid, key in keys.items() if kid in used}
    entries = [entry for each in roles.values() for entry in each]
    made = msgspec.structs.replace(
        before,
        version=before.version + 1,
        issued_at=now_ms,
        expires_at=now_ms + lasts_ms,
        people=_people(before, entries, keys),
        keys=keys,
        roles={name: role for name, role in held.items() if role.keys},
        own_calls_per_day=own_calls,
    )
    return parse_root(msgspec.json.encode(made))


def _pairs(given: list[str], what: str) -> list[tuple[str, str]]:
    found = [text.partition("=") for text in given]
    if any(not name or not value for name, _, value in found):
        raise InputError(f"expected {what}")
    return [(name, value) for name, _, value in found]


@root.command("next")
def draft_next(
    file: _FileArgument,
    out: Annotated[Path, typer.Option("--out", help="Where the draft is written.")],
    key: Annotated[
        list[str],
        typer.Option(
            "--role",
            metavar="ROLE=FILE",
            help="A role is held by this key from now on; once for each key of the role.",
            show_default=False,
        ),
    ] = [],  # noqa: B006 (typer copies defaults)
    remove: Annotated[
        list[str],
        typer.Option("--remove", metavar="KEY_ID", help="Take out a key.", show_default=False),
    ] = [],  # noqa: B006
    threshold: Annotated[
        list[str],
        typer.Option(
            "--threshold",
            metavar="ROLE=N",
            help="How many people of a role must sign.",
            show_default=False,
        ),
    ] = [],  # noqa: B006
    own_calls: Annotated[
        int | None,
        typer.Option("--own-calls", min=0, help="An overseer's own calls a day; 0: none."),
    ] = None,
    lasts: Annotated[str, typer.Option("--lasts", help="How long the root holds.")] = "365d",
    json_output: JsonFlag = False,
) -> None:
    """Draft the root that follows FILE; `gatelift sign` adds the signatures."""
    before = unverified_root(read_bytes(file))
    roles: dict[str, list[KeyEntry]] = {}
    for name, path in _pairs(key, "--role ROLE=FILE"):
        roles.setdefault(name, []).append(decode_json(read_bytes(Path(path)), KeyEntry))
    counts = _pairs(threshold, "--threshold ROLE=N")
    if any(not value.isascii() or not value.isdigit() for _, value in counts):
        raise InputError("expected --threshold ROLE=N with a number")
    made = next_root(
        before,
        roles=roles,
        removed=tuple(remove),
        thresholds={name: int(value) for name, value in counts},
        now_ms=now_ms(),
        lasts_ms=parse_duration_ms(lasts),
        own_calls=own_calls,
    )
    payload = msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n"
    replace_durably(out, payload)
    _show(made, sha256_digest(payload), f"Draft of root {made.version} in {out}, not signed.")


@root.command("check")
def check(
    file: _FileArgument,
    previous: Annotated[
        Path | None, typer.Option("--previous", help="The root before it, which must have signed.")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Verify a signed root and say who may sign what; its digest is what hosts pin."""
    data = read_bytes(file)
    before = None
    if previous is not None:
        before = unverified_root(read_bytes(previous))
    made = verify_root(data, now_ms(), before)
    after = "" if before is None else f", and follows root {before.version}"
    _show(made, sha256_digest(data), f"Root {made.version} holds{after}.")


@root.command("adopt")
def adopt(
    file: _FileArgument,
    directory: Annotated[Path, typer.Option("--dir", help="The deployment's folder.")],
    json_output: JsonFlag = False,
) -> None:
    """Pin a root on this host as the successor of the one that is pinned."""
    deployment = Deployment(directory)
    store = FileStore(deployment.path("files"))
    pinned, data = deployment.read_root_digest(), read_bytes(file)
    before = unverified_root(store.get(pinned))
    if sha256_digest(data) == pinned:
        _show(before, pinned, f"Root {before.version} is pinned here already.")
        return
    made = verify_root(data, now_ms(), before)
    store.put(data)
    pin_root(directory, store, sha256_digest(data), made)
    _show(made, sha256_digest(data), f"Root {made.version} is pinned here in place of its last.")


def _show(made: Root, digest: str, headline: str) -> None:
    value = {
        "ok": True,
        "name": made.name,
        "version": made.version,
        "digest": digest,
        "expires_at": made.expires_at,
        "roles": {
            name: {"threshold": role.threshold, "keys": role.keys}
            for name, role in made.roles.items()
        },
    }

    def render() -> None:
        say(headline)
        facts((("digest", digest), ("expires", at_text(made.expires_at))))
        rows = [
            (
                name if place == 0 else "",
                str(role.threshold) if place == 0 else "",
                made.keys[kid].person,
                made.keys[kid].scheme.value,
                kid.removeprefix("sha256:")[:12],
            )
            for name, role in made.roles.items()
            for place, kid in enumerate(role.keys)
        ]
        table(("role", "needs", "person", "signs with", "key"), rows)

    show(value, render)
