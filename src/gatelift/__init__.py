"""Gatelift releases an AI model in stages, behind an API that cannot serve wider than its evidence allows."""
