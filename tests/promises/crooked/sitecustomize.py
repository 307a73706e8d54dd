"""Found on PYTHONPATH by a deployment's processes: makes its control a crooked one.

The log, the keys and the witness are the true ones; control alone no longer asks whether a notice was
kept and, where the file `hides-objections` lies beside, leaves objections out of what it drafts; where
`ignores-approvals` does, it logs certificates beyond what was approved; where `takes-no-own-grants` does, it
logs no overseer's own grant. That is what an operator can do who runs a control of their own making.
"""

import importlib
import sys
from pathlib import Path

if "gatelift" in sys.orig_argv and "control" in sys.orig_argv:
    admit = importlib.import_module("gatelift.decide.admit_certificate")
    gates = importlib.import_module("gatelift.decide.gates")
    vars(admit)["_check_notice"] = lambda *_: None
    vars(gates)["check_notice"] = lambda *_: iter(())
    if (Path(__file__).parent / "ignores-approvals").exists():
        vars(admit)["check_approved_terms"] = lambda *_: None
    if (Path(__file__).parent / "hides-objections").exists():
        noticing = importlib.import_module("gatelift.control.noticing")
        vars(noticing)["objections_to"] = lambda *_: ()
    if (Path(__file__).parent / "takes-no-own-grants").exists():
        door = importlib.import_module("gatelift.decide.admit")
        error = importlib.import_module("gatelift.decide.admit_error").AdmitError

        def refuse(*_: object) -> None:
            raise error("not today", code="not_today")

        vars(door)["check_own_grant"] = refuse
