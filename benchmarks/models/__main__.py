"""`python -m benchmarks.models NAME… | --all | --list`: make the models and print where they are."""

from __future__ import annotations

import argparse
import sys

from . import MODELS, FetchError, load, names


def main() -> int:
    """Run the command; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description="Make models, print their paths.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="see --list")
    parser.add_argument("--all", action="store_true", help="make all of them (about 0.5 GB, with the packages)")
    parser.add_argument("--list", action="store_true", help="list them instead")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in MODELS]:
        parser.error(f"no model {unknown[0]!r}; there are {', '.join(names())}")
    if options.list:
        for name, model in MODELS.items():
            shapes = ", ".join(f"{key} {'x'.join(map(str, shape))}" for key, shape in model.inputs.items())
            print(f"{name:22}{model.mmac:8g} MMAC  {model.about} ({shapes})")
        return 0
    chosen = names() if options.all else options.names
    if not chosen:
        parser.error("name a model, or --all, or --list")
    for name in chosen:
        try:
            print(load(name), flush=True)
        except (FetchError, OSError) as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
