"""`python -m service.cli`: the same as the command `trainbox`."""

from service.cli import main

main()
