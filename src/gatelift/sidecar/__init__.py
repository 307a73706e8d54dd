"""The sidecar: runs beside a model server, on its host, and measures the weights that it loads.

It checks the sealed files before it starts the server, holds them open, and signs a short-lived
measurement for each nonce that a keeper asks with, as long as nothing of them has changed.
"""

from gatelift.sidecar.app import SidecarRefusalError, SidecarSettings, run

__all__ = ["SidecarRefusalError", "SidecarSettings", "run"]
