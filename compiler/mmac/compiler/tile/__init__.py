"""Tile IR and its passes: mapping, term-packing, scheduling, allocation."""

from mmac.compiler.tile.allocate import Allocate
from mmac.compiler.tile.ir import TileProgram
from mmac.compiler.tile.pack import Pack
from mmac.compiler.tile.schedule import Schedule
from mmac.compiler.tile.tile import Tile

__all__ = ["Allocate", "Pack", "Schedule", "Tile", "TileProgram"]
