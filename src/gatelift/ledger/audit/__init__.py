"""The audit of a dossier, check by check; `ledger.verify` runs them in order.

`folder` reads hostile bytes, `log` recomputes trees, `releases` opens entries, `authority` says who
was permitted what, `decisions` replays, `requests` opens batches, `exchanges`, `caps` and
`observations` recount, `report` collects what was found.
"""

from gatelift.ledger.audit.report import CANNOT_PROVE, AuditReport, Finding, Severity

__all__ = ["CANNOT_PROVE", "AuditReport", "Finding", "Severity"]
