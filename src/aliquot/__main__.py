"""`python -m aliquot`: the command line."""

from aliquot.cli.main import main

main()
