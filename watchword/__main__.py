"""`python -m watchword` is the same as the console script."""

from watchword.cli import main

main()
