"""A real Postgres of this machine for one test session: its own folder, port and password."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

__all__ = ["Postgres", "find_postgres"]

_READY_S = 30.0


def find_postgres() -> Path | None:
    """Return the folder of the server's programs, null where there is none."""
    found = shutil.which("initdb")
    if found is not None and (Path(found).resolve().parent / "postgres").exists():
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


class Postgres:
    """A server on loopback. It refuses to run as root, so there it runs as `postgres` or `nobody`."""

    def __init__(self, programs: Path, password: str) -> None:
        self._programs = programs
        # Not below pytest's folder: the server's user must be able to reach it.
        self.folder = Path(tempfile.mkdtemp(prefix="gl-pg-", dir="/tmp"))
        self._user = self._find_user()
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        secret = self.folder / "password"
        secret.write_text(password)
        secret.chmod(0o644)
        data = self.folder / "data"
        self._run(
            "initdb", "-D", str(data), "-U", "owner", "--pwfile", str(secret), "-N", "-E", "UTF8",
            "--auth-host=scram-sha-256", "--auth-local=scram-sha-256", "--no-locale",
        )  # fmt: skip
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(str(programs / "postgres"), "-D", str(data), "-p", str(self.port)),
                    *("-h", "127.0.0.1", "-k", str(self.folder), "-F"),
                ],
                stdout=subprocess.DEVNULL,
                stderr=log,
                user=self._user,
                cwd="/",
            )
        self._wait()

    @staticmethod
    def _find_user() -> str | None:
        if os.getuid() != 0:
            return None
        try:
            return pwd.getpwnam("postgres").pw_name
        except KeyError:
            return "nobody"

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._programs / program), *arguments],
            check=True,
            capture_output=True,
            user=self._user,
            cwd="/",
            timeout=60,
        )

    def _wait(self) -> None:
        end = time.monotonic() + _READY_S
        while True:
            done = subprocess.run(
                [str(self._programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port)],
                check=False,
                capture_output=True,
            )
            if done.returncode == 0:
                return
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.1)

    def url(self, user: str, password: str, database: str = "postgres", query: str = "") -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}{query}"

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        shutil.rmtree(self.folder)
