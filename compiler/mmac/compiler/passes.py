"""What every compiler pass looks like."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

from mmac.isa.errors import MmacWarning as MmacWarning

In = TypeVar("In")
Out = TypeVar("Out")


class Pass(ABC, Generic[In, Out]):
    """One job of the compiler.

    Subclasses are frozen dataclasses: their fields are the options of the pass.  A pass never changes its argument,
    so that the model before and after it can be compared.
    """

    name: ClassVar[str]
    """Name on the command line (``--after NAME``)."""

    @abstractmethod
    def apply(self, value: In, /) -> Out:
        """The result of the pass on `value`, which is left as it was."""
