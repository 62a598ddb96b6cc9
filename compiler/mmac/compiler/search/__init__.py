"""Choosing budgets: which (α, β) each layer has at each level, under limits on latency, energy or error.

`search_budgets` is in `search.py`. It measures what layers' candidates do to the outputs (`sensitivity`, `variants`),
prices them by the runtime's model (`costs`), makes chains of options that nest (`plans`), compiles them, puts the best
ones together (`pool`, `knapsack`), and measures and simulates what it found (`choose`).
"""

from mmac.compiler.search.result import Found, LevelFound, to_toml
from mmac.compiler.search.search import Goal, search_budgets

__all__ = ["Found", "Goal", "LevelFound", "search_budgets", "to_toml"]
