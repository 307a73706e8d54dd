"""The command line: every process and every person's act, under the words of the design.

`gatelift init` and `up` make and run a deployment; the other commands sign, submit, read and check.
Each module is one group of commands and is imported only when it is asked for, so that a signature
takes a fraction of a second. `--json` prints one JSON object; exit codes are in `errors`.
"""

from gatelift.cli.app import main

__all__ = ["main"]
