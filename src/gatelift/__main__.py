"""`python -m gatelift`: the command line, whatever is on the PATH."""

from gatelift.cli import main

main()
