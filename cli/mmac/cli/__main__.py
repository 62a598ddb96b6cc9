"""`python -m mmac.cli`: the same as the command `mmac`."""

from mmac.cli import main

main()
