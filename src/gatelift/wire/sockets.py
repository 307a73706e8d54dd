"""Where a deployment's sockets are.

Invariants
- A socket lies in `DIR/run`, unless its path would be too long for the system; then in a private
  folder under the system's temporary folder, named by the digest of the deployment's own path.
- The folder is ours alone (mode 0700, our user); anything else is refused.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from gatelift.errors import CallerError

__all__ = ["SocketFolderError", "socket_path"]

# sun_path holds 108 bytes with its final zero; some are left for a temporary name.
_MAX_PATH_BYTES = 100


class SocketFolderError(CallerError):
    """The folder for sockets belongs to somebody else or is open to others."""

    code = "bad_socket_folder"


def socket_path(directory: Path, name: str) -> Path:
    """Return where the socket `name` of the deployment in `directory` lies; makes the folder."""
    folder = directory.resolve() / "run"
    if len(os.fsencode(folder / name)) > _MAX_PATH_BYTES:
        short = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"gatelift-{os.getuid()}-{short}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise SocketFolderError(f"expected {folder.name} to be a folder of this user: remove it")
    if stat.S_IMODE(found.st_mode) & 0o077:
        folder.chmod(0o700)
    return folder / name
