"""A machine that falls ill while a deployment runs on it: its disk, its wall clock.

A small C library is compiled here and preloaded into every process of the deployment
(`shim/shim.c`); the test and all of them map one control file. Nothing of the package is changed,
and nothing here imports it.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_SHIM = Path(__file__).parent / "shim"
_LAYOUT = struct.Struct("<IiqII256s")
WRITE, TORN, SYNC, SHORT, SLOW = 1, 2, 4, 8, 16


class Machine:
    """Compiles the shim into `folder` and hands out the environment that preloads it.

    `spare_witnesses` leaves the witness's process well: another organisation's machine.
    """

    def __init__(self, folder: Path, *, spare_witnesses: bool = False) -> None:
        if shutil.which("gcc") is None:
            pytest.skip("no C compiler here: a disk and a clock cannot be made ill")
        folder.mkdir()
        self._folder = folder
        shutil.copy(_SHIM / "sitecustomize.py", folder)
        if spare_witnesses:
            (folder / "spares-witnesses").touch()
        subprocess.run(
            ["gcc", "-O1", "-shared", "-fPIC", "-o", folder / "shim.so", _SHIM / "shim.c", "-ldl"],
            check=True,
            timeout=60,
        )
        (folder / "control").write_bytes(bytes(4096))
        with (folder / "control").open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 4096)
        self._shift_ns = 0
        path = os.environ.get("PYTHONPATH", "")
        self.environment = {"PYTHONPATH": f"{folder}:{path}" if path else str(folder)}

    @property
    def preloaded(self) -> dict[str, str]:
        """The environment of a process that is started by hand."""
        found = {"LD_PRELOAD": "shim.so", "FIRE_CONTROL": "control"}
        return {name: str(self._folder / file) for name, file in found.items()}

    @property
    def shift_s(self) -> float:
        return self._shift_ns / 1e9

    @contextmanager
    def disk(
        self,
        what: int,
        *,
        error: int = errno.EIO,
        path: str = "/journal/",
        every: int = 1,
        delay_s: float = 0,
    ) -> Iterator[None]:
        """Have calls on files whose path contains `path` fail with `error` for a while."""
        self._set(what, error, int(delay_s * 1e6), every, path)
        try:
            yield
        finally:
            self._set(0, 0, 0, 0, path)

    def shift_clock(self, seconds: float) -> None:
        """Set the wall clock of every process to the true time and so much more."""
        self._shift_ns = int(seconds * 1e9)
        self._map[8:16] = struct.pack("<q", self._shift_ns)

    def close(self) -> None:
        self._map.close()

    def _set(self, what: int, error: int, delay_us: int, every: int, path: str) -> None:
        # What is to be done goes in last, when all it depends on stands.
        held = _LAYOUT.pack(0, error, self._shift_ns, delay_us, every, path.encode())
        self._map[: len(held)] = held
        self._map[0:4] = struct.pack("<I", what)
