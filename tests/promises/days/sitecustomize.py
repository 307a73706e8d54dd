"""Found on PYTHONPATH by a deployment's processes, its witness among them: their clocks lag behind.

By as many seconds as the file `behind` beside this one says, so that a test can let days pass. Where
the file `crooked` lies beside, control and the export of a dossier no longer ask how long a root was
public; log, keys and witness are the true ones.
"""

import importlib
import sys
import time
from pathlib import Path

BEHIND = Path(__file__).parent / "behind"
_time, _time_ns = time.time, time.time_ns


def _behind_s() -> int:
    return int(BEHIND.read_text() or "0")


vars(time)["time"] = lambda: _time() - _behind_s()
vars(time)["time_ns"] = lambda: _time_ns() - _behind_s() * 1_000_000_000

crooked = (Path(__file__).parent / "crooked").exists()
if crooked and "gatelift" in sys.orig_argv and {"control", "dossier"} & set(sys.orig_argv):
    root = importlib.import_module("gatelift.trust.root")
    vars(root)["check_root_notice"] = lambda *_: None
