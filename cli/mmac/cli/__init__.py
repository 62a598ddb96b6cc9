"""The command line; each command is a thin layer over one Python function."""

from mmac.cli.app import main

__all__ = ["main"]
