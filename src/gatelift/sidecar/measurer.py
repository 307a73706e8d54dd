"""What a sidecar may still say of the files that it hashed.

    sound --the files are as they were--> sound
    sound --one changed, came or went; content differs when read again; the server ended--> broken

Invariants
- `broken` latches: what was swapped for a moment and put back was swapped.
- A measurement is signed only after the files were compared for this very nonce.
- A nonce is plain and bounded; it is signed as it came.

Fails closed: if the files can't be compared, they have changed. The clock is an argument.
"""

from __future__ import annotations

import logging
import re
import threading
from typing import Final

from gatelift.encoding import Digest
from gatelift.errors import CallerError
from gatelift.messages import Measurement, sign_measurement
from gatelift.trust import SigningKey
from gatelift.wire.model_files import HeldModel

__all__ = ["Measurer", "NotMeasuredError"]

_LOG = logging.getLogger(__name__)
_NONCE: Final = re.compile(r"[0-9a-f]{16,128}")
_SHOWN: Final = 3


class NotMeasuredError(CallerError):
    """The files are not what was sealed any more; a new start measures anew."""

    code = "not_measured"


class Measurer:
    """Signs measurements of one held model for one placement."""

    def __init__(
        self,
        model: HeldModel,
        key: SigningKey,
        *,
        placement: str,
        fingerprint: Digest,
        weights: Digest,
        manifest: Digest,
        loaded_at: int,
        lives_ms: int,
    ) -> None:
        self._model = model
        self._key = key
        self._about = Measurement(
            placement=placement,
            fingerprint=fingerprint,
            weights=weights,
            manifest=manifest,
            nonce="",
            loaded_at=loaded_at,
            measured_at=loaded_at,
            lives_ms=lives_ms,
        )
        self._comparing = threading.Lock()
        self._broken: str | None = None

    @property
    def broken(self) -> str | None:
        """Why nothing is measured any more, null while all is sound."""
        return self._broken

    def measure(self, nonce: str, now_ms: int) -> bytes:
        """Compare the files, then return the signed measurement that answers `nonce`.

        Raises `NotMeasuredError`, or `CallerError` (`bad_nonce`).
        """
        if not _NONCE.fullmatch(nonce):
            raise CallerError("expected a nonce of 16 to 128 hex digits", code="bad_nonce")
        with self._comparing:
            if self._broken is None:
                self._take(self._model.changes(), "changed since they were hashed")
        if self._broken is not None:
            raise NotMeasuredError(self._broken)
        about = self._about
        return sign_measurement(
            Measurement(
                placement=about.placement,
                fingerprint=about.fingerprint,
                weights=about.weights,
                manifest=about.manifest,
                nonce=nonce,
                loaded_at=about.loaded_at,
                measured_at=now_ms,
                lives_ms=about.lives_ms,
            ),
            self._key,
        )

    def read_again(self) -> None:
        """Hash every file once more, through the descriptors that are held."""
        self._take(self._model.rehash(), "hold other bytes than before")

    def end(self, why: str) -> None:
        """Measure nothing more."""
        self._broken = self._broken or why

    def _take(self, paths: tuple[str, ...], what: str) -> None:
        if paths:
            self.end(
                f"{', '.join(paths[:_SHOWN])} of {len(paths)} {what}: seal or restore, and start again"
            )
            _LOG.error("nothing is measured any more: %s", self._broken)
