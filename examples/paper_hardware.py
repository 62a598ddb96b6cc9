"""The hardware section of the paper (§7), from the model: tables, verdicts, and a page with plots.

    python -m examples.paper_hardware                # into paper/: hardware.json, hardware.html
    python -m examples.paper_hardware --quick        # the bundled classifier only; downloads nothing

Each table sets three columns side by side: what was published, what the constants calibrated to it give, and what
follows from first principles. §7.1 compares cells; §7.2 levels, with a study of the assumptions that its ratios depend
on; §7.3 published FPGA designs. Verdicts are computed from the numbers. Costs do not depend on data or on weights'
values beyond their terms, so networks with seeded weights serve as well as trained ones.

Needs the extras `bench` (models) and `report` (plots; without it there are tables and JSON only).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from examples.paper import cells, designs, levels
from examples.paper.networks import Costs, Network
from examples.paper.report import save, show
from examples.paper.sections import Section
from mmac.runtime.targets import Target, load_target

NETWORKS = ("mobilenet_v2", "resnet18", "resnet50", "yolov5n", "lstm650")
"""The paper's workloads; its ratios between levels are about the first of them."""

TITLE = "mMAC hardware: the paper's claims and the model"


def sections(target: Target, networks: Sequence[Network]) -> list[Section]:
    """The sections; the ratios of §7.2 are about the first network, §7.3 is about ResNet-18, if it is among them."""
    costs = [Costs(network.name, network.program(target), target) for network in networks]
    about_designs = [designs.section(each) for each in costs if each.name == "resnet18"]
    return [cells.section(target, costs), levels.section(target, networks, costs), *about_designs]


def main() -> None:
    """Compute, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the bundled classifier instead of the paper's networks")
    parser.add_argument("--target", default="vc707", help="default: %(default)s")
    parser.add_argument("--out-dir", type=Path, default=Path("paper"), help="default: %(default)s")
    args = parser.parse_args()
    begin = time.process_time()
    target = load_target(args.target)
    networks = [Network.bundled()] if args.quick else [Network.benchmark(name) for name in NETWORKS]
    about = (
        f"{target.name}: {target.cell_count} cells at {target.clock.mhz:g} MHz; {', '.join(n.name for n in networks)}"
    )
    if args.quick:
        about += ". A quick look with a network that is none of the paper's: §7.2 shows only that it works."
    found = sections(target, networks)
    print(about)
    show(found)
    save(found, TITLE, about, args.out_dir, "hardware")
    print(f"{time.process_time() - begin:.0f} s of CPU", file=sys.stderr)


if __name__ == "__main__":
    main()
