"""The witnesses that a root names, and the tlog policy that they make up.

    log <releases vkey>
    witness <name> <vkey> [url]
    group organisation:<name> any <its witnesses>      for an organisation with several
    group witnesses <quorum> <organisations>
    quorum witnesses

Invariants
- The quorum counts organisations: however many witnesses one of them runs, together they are one.
- Two spellings of one organisation (case, blanks, width) are refused, so that nobody counts twice by
  how a name is written.
- One key, one witness, one name; and no key is a log's as well.
- Whoever verifies a head (gateway, keeper, control, auditor) does so by this policy.

An organisation with one witness stands in the policy as that witness. Whether two names are one
organisation in truth is for those who sign the root.

Follows C2SP tlog-policy.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence
from urllib.parse import quote, urlsplit

import msgspec

from gatelift.errors import CallerError
from gatelift.tlog import Policy, parse_policy
from gatelift.trust.errors import RootError

__all__ = ["Witness", "check_url", "check_witnesses", "same_organisation", "witness_policy"]

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_QUORUM = "witnesses"
_PREFIX = "organisation:"


class Witness(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cosigner of the releases log. `independent` is false on one machine with the operator.

    `url` is where it takes checkpoints and shows the last one; empty where that is told elsewhere.
    """

    name: str
    vkey: str
    organisation: str
    independent: bool
    url: str = ""


def same_organisation(name: str) -> str:
    """Return what all spellings of an organisation's name have in common."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def check_url(url: str, what: str) -> None:
    """Return if `url` is one that others may be sent to; raises `RootError`."""
    try:
        parts = urlsplit(url)
        known = parts.hostname is not None and parts.port != 0
    except ValueError:
        parts, known = urlsplit(""), False
    plain = parts.scheme == "http" and parts.hostname in _LOOPBACK
    clean = "@" not in parts.netloc and not parts.fragment and url.isascii()
    if not (known and clean and url.isprintable() and " " not in url) or not (
        parts.scheme == "https" or plain
    ):
        raise RootError(
            f"{what}: expected https://host/path (http:// on loopback only), got {url[:80]!r}"
        )


def check_witnesses(
    releases_vkey: str, witnesses: Sequence[Witness], quorum: int, operator: Collection[str]
) -> None:
    """Return if these witnesses can make up the quorum; raises `RootError`.

    `operator` are the operator's organisations, none of which may witness.
    """
    spellings: dict[str, str] = {}
    for each in witnesses:
        known = spellings.setdefault(same_organisation(each.organisation), each.organisation)
        if known != each.organisation:
            raise RootError(
                f"witness {each.name!r}: the organisation {each.organisation!r} stands as "
                f"{known!r} already: spell it in one way",
                code="witness_organisation",
            )
        _check_words(each)
        if each.url:
            check_url(each.url, f"witness {each.name!r}")
    if spellings.keys() & {same_organisation(each) for each in operator}:
        raise RootError(
            "a witness's organisation is the operator's: name a witness from outside",
            code="witness_inside",
        )
    if not 0 <= quorum <= len(spellings):
        raise RootError(
            f"witness_quorum {quorum} is more than the {len(spellings)} organisations that witness: "
            "each counts once, however many witnesses it runs"
        )
    if "" in spellings:
        raise RootError("expected the organisation of each witness, found one without")
    try:
        witness_policy(releases_vkey, witnesses, quorum)
    except CallerError as error:
        raise RootError(f"the witnesses make no policy: {error}") from error


def _check_words(witness: Witness) -> None:
    # They become words of a policy's line, which a blank or an end of line would make others of.
    for what, word in (("name", witness.name), ("vkey", witness.vkey)):
        if not word or not word.isprintable() or " " in word:
            raise RootError(f"a witness's {what}: expected one word, got {word[:80]!r}")


def witness_policy(releases_vkey: str, witnesses: Sequence[Witness], quorum: int) -> Policy:
    """Return the policy of a releases log that `quorum` organisations cosign."""
    lines = [f"log {releases_vkey}"]
    lines += [f"witness {each.name} {each.vkey} {each.url}".rstrip() for each in witnesses]
    if quorum:
        by_organisation: dict[str, list[str]] = {}
        for each in witnesses:
            by_organisation.setdefault(same_organisation(each.organisation), []).append(each.name)
        members = []
        for organisation, names in by_organisation.items():
            member = names[0]
            if len(names) > 1:
                member = _PREFIX + quote(organisation, safe=".-_")
                lines.append(f"group {member} any {' '.join(names)}")
            members.append(member)
        lines.append(f"group {_QUORUM} {quorum} {' '.join(members)}")
        lines.append(f"quorum {_QUORUM}")
    else:
        lines.append("quorum none")
    return parse_policy(("\n".join(lines) + "\n").encode("utf-8"))
