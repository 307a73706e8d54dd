"""What one benchmark stands on: the mock, and the contenders, started and frozen."""

from __future__ import annotations

import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.contenders import BareNginx, Contender, EverythingOn, check_answers
from bench.deployment import Deployment
from bench.nginx import BareProxy, Mock
from bench.peers import start_peer
from bench.ports import free_ports

__all__ = ["House", "open_house", "say", "told"]


def say(text: str) -> None:
    """Tell progress; standard output is for the result."""
    print(text, file=sys.stderr, flush=True)


def told(error: Exception) -> str:
    """Return an error as a kept result may say it: without this machine's paths."""
    text = f"{type(error).__name__}: {error}".replace(str(Path.cwd()), ".")
    return re.sub(r"(?<![\w.:/])/[^\s'\",)]*/", "", text)[:400]


class House:
    """The mock, the contenders that run, and why others do not."""

    def __init__(self, folder: Path, gateway_core: int, load_core: int) -> None:
        self.folder = folder
        self.gateway_core = gateway_core
        self.load_core = load_core
        self.key = secrets.token_hex(16)
        self.mock = Mock(folder / "mock", load_core, free_ports(1), self.key)
        self.contenders: list[Contender] = []
        self.absent: dict[str, str] = {}

    def add(self, name: str, callers: int) -> None:
        """Start a contender; what can't be started is noted with its reason."""
        say(f"starting {name}")
        try:
            contender = self._start(name, callers)
            self._check(contender)
        except Exception as error:  # noqa: BLE001 (one that fails must not take the others along)
            self.absent[name] = told(error)
            say(f"  {name} can't be measured: {self.absent[name]}")
            return
        self.contenders.append(contender)
        contender.freeze()

    @staticmethod
    def _check(contender: Contender) -> None:
        try:
            check_answers(contender.target())
        except BaseException:
            contender.stop()
            raise

    def _start(self, name: str, callers: int) -> Contender:
        if name == "nginx":
            port = free_ports(1)
            proxy = BareProxy(self.folder / "nginx", self.gateway_core, port, self.mock.port)
            return BareNginx(proxy, self.mock)
        if name == "gatelift":
            return EverythingOn(self.deploy("gatelift", callers))
        return start_peer(name, self.folder / name, self.gateway_core, self.mock)

    def deploy(
        self, name: str, callers: int, *, workers: int = 1, upstream: str = ""
    ) -> Deployment:
        """Make and start a deployment with callers."""
        deployment = Deployment(
            self.folder / name,
            core=self.gateway_core,
            upstream=upstream or self.mock.url,
            upstream_key=self.key,
            workers=workers,
        )
        try:
            deployment.start()
            deployment.admit_callers(callers)
        except BaseException:
            deployment.stop()
            raise
        return deployment

    def ours(self) -> EverythingOn:
        """Return Gatelift with everything on."""
        return next(each for each in self.contenders if isinstance(each, EverythingOn))

    def close(self) -> None:
        """End everything, last started first."""
        endings = [each.stop for each in reversed(self.contenders)]
        for stop in (*endings, self.mock.stop):
            try:
                stop()
            except Exception as error:  # noqa: BLE001 (the others are to be ended too)
                say(f"while ending: {told(error)}")


@contextmanager
def open_house(
    folder: Path, names: Sequence[str], *, callers: int, gateway_core: int = 0, load_core: int = 1
) -> Iterator[House]:
    """Start mock and contenders in a new folder, and end them.

    What an earlier run left is put aside and deleted at the end: for minutes after many files were
    deleted, ext4 takes up to a millisecond to create one, as it does not use their inodes again yet.
    """
    old = folder.with_name(f"{folder.name}.old")
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    folder.mkdir(parents=True)
    house = House(folder.resolve(), gateway_core, load_core)
    try:
        for name in names:
            house.add(name, callers)
        yield house
    finally:
        house.close()
        shutil.rmtree(old, ignore_errors=True)
