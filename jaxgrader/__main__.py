"""`python -m jaxgrader`: the program, for those that know the environment's Python."""

import sys

from jaxgrader.cli import main

sys.argv[0] = "jaxgrader"  # what messages and the lock call it
main()
