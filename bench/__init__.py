"""How fast the gateway is, beside peers, in one run on one machine: `make bench-gateway`.

Programs of a terminal, written against the public surface (the CLI, HTTP, the journal's reader).
`__main__` orders the run, `settings` says how long each part is, `scenes` holds the parts, and
docs/performance.md is drawn from the newest file in `results/`.
"""
