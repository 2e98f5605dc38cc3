"""`python -m memscape`: the command line."""

from memscape.cli import main

main()
