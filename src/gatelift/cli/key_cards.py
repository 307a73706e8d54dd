"""`gatelift keys enrol-token` and `enrol-passkey`: a card for a key that no file can hold.

Invariants
- A card holds nothing secret and is never written over an existing file.
- What is enrolled is what token, service or browser said; the ceremony decides whether it counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gatelift.cli.errors import InputError
from gatelift.cli.output import JsonFlag, facts, say, show
from gatelift.wire.files import replace_durably
from gatelift.wire.passkey_signer import enrol_passkey
from gatelift.wire.signer_cards import PasskeyCard, TokenCard, encode_card
from gatelift.wire.signers import read_card

__all__ = ["enrol_passkey_card", "enrol_token"]

CardArgument = Annotated[
    Path, typer.Argument(metavar="CARD", help="Where the card is written; a new file.")
]


def enrol_token(
    card: CardArgument,
    uri: Annotated[
        str,
        typer.Option("--signer", metavar="URI", help="hsm:2?label=board, or awskms:alias/board."),
    ],
    json_output: JsonFlag = False,
) -> None:
    """Read the public half of a key in a PKCS#11 token or in AWS KMS; write a card that signs."""
    _check_new(card)
    _keep(card, read_card(uri))


def enrol_passkey_card(
    card: CardArgument,
    person: Annotated[str, typer.Option("--person", help="Whose it is: a pseudonym.")],
    json_output: JsonFlag = False,
) -> None:
    """Have a browser of this machine make a passkey; write a card that signs with it."""
    _check_new(card)
    _keep(card, enrol_passkey(person))


def _check_new(path: Path) -> None:
    if path.exists():
        raise InputError(f"{path} exists and is not overwritten: move it away first")


def _keep(path: Path, card: TokenCard | PasskeyCard) -> None:
    replace_durably(path, encode_card(card))
    value = {"ok": True, "file": str(path), "key_id": card.key.id, "public": card.public}
    value |= {"scheme": card.key.scheme.value}
    if isinstance(card, PasskeyCard):
        value |= {"rp_id": card.rp_id}

    def render() -> None:
        say(f"New card {path}. It signs wherever a key file does: --key {path}")
        facts((("key id", card.key.id), ("scheme", card.key.scheme.value)))

    show(value, render)
