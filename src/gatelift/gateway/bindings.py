"""Whether a caller has what its API key is bound to, and has not shown this proof before.

Invariants
- A bound key without its binding identifies nobody; unbound keys pass untouched.
- A certificate counts only from the TLS connection that ends here; no header can claim one.
- A proof counts once in this worker. Only proofs that verified are remembered, for as long as they
  could verify again; who sends more than can be remembered is refused, not forgotten.

Another worker has its own memory: within its two minutes a captured proof could be used once at each.
"""

from __future__ import annotations

import hashlib
from typing import Final

from gatelift.gateway.http_messages import DuplicateHeaderError, Request
from gatelift.trust import (
    WINDOW_MS,
    BindingError,
    BindingKind,
    DpopRequest,
    KeyBinding,
    matches_thumbprint,
    verify_dpop,
)

__all__ = ["ProofMemory", "check_bound"]

_MAX_PROOFS: Final = 131_072
_MAX_PROOFS_A_KEY: Final = 16_384
_PLAIN: Final = frozenset({"http", "https"})
_TLS: Final = frozenset({"https"})


class ProofMemory:
    """Ids of proofs that were used, by the thumbprint of their key."""

    def __init__(
        self, *, max_proofs: int = _MAX_PROOFS, max_proofs_a_key: int = _MAX_PROOFS_A_KEY
    ) -> None:
        self._max = max_proofs
        self._max_a_key = max_proofs_a_key
        self._count = 0
        # Each inner dict is in order of time: all entries live equally long.
        self._until_ms: dict[str, dict[bytes, int]] = {}

    def use(self, thumbprint: str, jti: str, now_ms: int) -> None:
        """Note that a proof is used now; raises `BindingError` if it was, or there are too many."""
        held = self._until_ms.setdefault(thumbprint, {})
        self._forget(held, now_ms)
        short = hashlib.sha256(jti.encode("utf-8", "surrogatepass")).digest()[:16]
        if short in held:
            raise BindingError("the DPoP proof was used before: make one for each request")
        if len(held) >= self._max_a_key or self._count >= self._max:
            self._forget_all(now_ms)
            if len(held) >= self._max_a_key or self._count >= self._max:
                raise BindingError("too many DPoP proofs within two minutes: send fewer requests")
        self._until_ms[thumbprint] = held
        held[short] = now_ms + 2 * WINDOW_MS
        self._count += 1

    def _forget(self, held: dict[bytes, int], now_ms: int) -> None:
        while held:
            oldest = next(iter(held))
            if held[oldest] > now_ms:
                return
            del held[oldest]
            self._count -= 1

    def _forget_all(self, now_ms: int) -> None:
        for thumbprint, held in list(self._until_ms.items()):
            self._forget(held, now_ms)
            if not held:
                del self._until_ms[thumbprint]


def check_bound(
    binding: KeyBinding, request: Request, api_key: str, memory: ProofMemory, now_ms: int
) -> None:
    """Return if the request carries what its key is bound to; raises `BindingError`."""
    match binding.kind:
        case BindingKind.MTLS:
            _check_certificate(binding, request)
        case BindingKind.DPOP:
            _check_proof(binding, request, api_key, memory, now_ms)


def _check_certificate(binding: KeyBinding, request: Request) -> None:
    if request.client_certificate is None:
        raise BindingError(
            "this key is bound to a TLS client certificate: show it when connecting",
            code="binding_required",
        )
    if not matches_thumbprint(binding, request.client_certificate):
        raise BindingError("this key is bound to another TLS client certificate")


def _check_proof(
    binding: KeyBinding, request: Request, api_key: str, memory: ProofMemory, now_ms: int
) -> None:
    try:
        proof, host = request.header(b"dpop"), request.header(b"host")
    except DuplicateHeaderError:
        raise BindingError("expected one DPoP header and one Host") from None
    if proof is None:
        raise BindingError(
            "this key is bound to a DPoP key: send a proof in the DPoP header",
            code="binding_required",
        )
    asked = DpopRequest(
        method=request.method,
        schemes=_TLS if request.tls else _PLAIN,
        host=(host or b"").decode("latin-1"),
        path=request.sent_path,
        api_key=api_key,
    )
    found = verify_dpop(proof, asked, now_ms)
    if not matches_thumbprint(binding, found.thumbprint):
        raise BindingError("this key is bound to another DPoP key")
    memory.use(found.thumbprint, found.jti, now_ms)
