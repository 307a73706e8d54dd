"""The beacon as control sees it: other organisations that must sign each status before it counts.

Invariants
- All are asked at once, each within `ASK_S`; as soon as enough organisations signed, nobody else is
  waited for.
- A signature is taken only if it holds and is a beacon's of the root: one that answers nonsense spoils
  nothing for the others.
- Without enough of them there is no status. Nothing here makes up for silence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Self

import httpx
import msgspec

from gatelift.encoding import decode_json
from gatelift.errors import GateliftError
from gatelift.trust import (
    BEACON,
    STATUS_TYPE,
    DsseSignature,
    Root,
    Signer,
    check_beacon,
    join_signature,
    verify_signers,
)

__all__ = ["ASK_S", "BeaconPanel", "BeaconReport"]

ASK_S = 1.5
_MAX_ANSWER_BYTES = 16_384
_LOG = logging.getLogger(__name__)


class BeaconReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a beacon stands: whose it is, when it signed last (ms UTC), and what is wrong now."""

    url: str
    organisation: str | None
    signed_at: int | None
    problem: str | None


class _SilentError(GateliftError):
    code = "beacon_failed"


class _Signed(msgspec.Struct, frozen=True):
    signature: DsseSignature
    signer: Signer


class BeaconPanel:
    """Asks at the root's `beacon_urls`. Use it as a context, inside one event loop."""

    def __init__(self, root: Callable[[], Root], now_ms: Callable[[], int]) -> None:
        self._root = root
        self._now_ms = now_ms
        self._client: httpx.AsyncClient | None = None
        self._reports: dict[str, BeaconReport] = {}

    async def __aenter__(self) -> Self:
        self._client = httpx.AsyncClient(timeout=ASK_S, trust_env=False, follow_redirects=False)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._client is not None:
            await self._client.aclose()

    def reports(self) -> tuple[BeaconReport, ...]:
        """Return how each stands, as the root lists them."""
        urls = self._root().beacon_urls
        return tuple(self._reports.get(url) or _unasked(url) for url in urls)

    async def endorse(self, envelope: bytes) -> bytes | None:
        """Return the status in `envelope` with the signatures that its root asks for, or null."""
        root = self._root()
        if BEACON not in root.roles:
            return envelope
        asking = [asyncio.ensure_future(self._ask(url, envelope, root)) for url in root.beacon_urls]
        signers: list[Signer] = []
        try:
            for answer in asyncio.as_completed(asking):
                signed = await answer
                if signed is None:
                    continue
                envelope = join_signature(envelope, signed.signature)
                signers.append(signed.signer)
                if _is_enough(root, signers):
                    return envelope
        finally:
            for each in asking:
                each.cancel()
        return None

    async def _ask(self, url: str, envelope: bytes, root: Root) -> _Signed | None:
        problem: str | None = None
        signed: _Signed | None = None
        try:
            signed = _read(await self._post(url, envelope), envelope, root)
        except (GateliftError, httpx.HTTPError, TimeoutError) as error:
            problem = str(error) or type(error).__name__
        self._note(url, signed, problem)
        return signed

    def _note(self, url: str, signed: _Signed | None, problem: str | None) -> None:
        held = self._reports.get(url) or _unasked(url)
        if problem is not None and held.problem != problem:
            _LOG.warning("the beacon at %s: %s", url, problem)
        elif signed and held.problem:
            _LOG.info("the beacon at %s signs again", url)
        self._reports[url] = BeaconReport(
            url=url,
            organisation=signed.signer.organisation if signed else held.organisation,
            signed_at=self._now_ms() if signed else held.signed_at,
            problem=problem,
        )

    async def _post(self, url: str, envelope: bytes) -> bytes:
        if self._client is None:
            raise _SilentError("control is stopping")
        async with asyncio.timeout(ASK_S):
            request = self._client.stream("POST", f"{url.rstrip('/')}/sign", content=envelope)
            async with request as response:
                data = b""
                async for chunk in response.aiter_bytes():
                    data += chunk
                    if len(data) > _MAX_ANSWER_BYTES:
                        raise _SilentError(f"answered more than {_MAX_ANSWER_BYTES} bytes")
        if response.status_code != 200:
            said = data[:200].decode("utf-8", "replace").strip()
            raise _SilentError(f"answered {response.status_code}: {said}")
        return data


def _unasked(url: str) -> BeaconReport:
    return BeaconReport(url=url, organisation=None, signed_at=None, problem=None)


def _read(answer: bytes, envelope: bytes, root: Root) -> _Signed:
    signature = decode_json(answer, DsseSignature)
    _, signers = verify_signers(join_signature(envelope, signature), STATUS_TYPE, root)
    for signer in signers:
        if signer.key == signature.keyid and signer.role == BEACON:
            return _Signed(signature, signer)
    raise _SilentError("signed with a key that is no beacon's in the root")


def _is_enough(root: Root, signers: list[Signer]) -> bool:
    try:
        check_beacon(root, signers)
    except GateliftError:
        return False
    return True
