"""From allocated tile IR to a program."""

from mmac.compiler.emit.emit import Emit

__all__ = ["Emit"]
