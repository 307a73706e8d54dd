"""The main job on one machine: a small real model is released in stages, and stopped.

Uses the public surface alone: the `gatelift` command, the gateway through the official `openai`
client, the admin API over HTTP. Nothing is imported from the package. No clock is faked, no
observation seeded, no answer scripted: what the model does is what it does.
"""
