"""The beacon: organisations are counted, and the overseer keeps the role in the root."""
