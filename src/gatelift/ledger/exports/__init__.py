"""A dossier in other people's words: a CycloneDX ML-BOM, and in-toto statements.

Views, made anew from the logged bytes each time and signed by nobody: what was signed is the dossier.
"""

from gatelift.ledger.exports.forms import passes
from gatelift.ledger.exports.in_toto import make_statements
from gatelift.ledger.exports.ml_bom import make_ml_bom
from gatelift.ledger.exports.verified import ExportError, VerifiedDossier, open_verified

__all__ = [
    "ExportError",
    "VerifiedDossier",
    "make_ml_bom",
    "make_statements",
    "open_verified",
    "passes",
]
