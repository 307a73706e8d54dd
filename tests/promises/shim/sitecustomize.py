"""Found on PYTHONPATH by every process of a deployment: begins it anew with the shim preloaded.

The supervisor hands its children a short list of variables only; PYTHONPATH is one of them.
"""

import os
import sys
from pathlib import Path

_HERE = Path(__file__).parent

# A witness is somebody else's machine: where the test says so, it stays a healthy one.
_SPARED = (_HERE / "spares-witnesses").exists() and "witness" in sys.orig_argv

if "FIRE_CONTROL" not in os.environ and "gatelift" in sys.orig_argv and not _SPARED:
    # Each deployment of a test has a folder of its own beside its control file.
    os.environ["LD_PRELOAD"] = str(_HERE / "shim.so")
    os.environ["FIRE_CONTROL"] = str(_HERE / "control")
    os.execv(sys.executable, sys.orig_argv)
