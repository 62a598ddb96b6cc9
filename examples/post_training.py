"""Post-training term quantization, as published? Accuracy against α and β, with and without correction per level.

    python -m examples.post_training           # into paper/: post_training.json, post_training.html
    python -m examples.post_training --quick   # few levels of the bundled classifier; downloads nothing

Two trained networks, quantized without any training: the bundled Fashion-MNIST classifier (accuracy on all 10,000 test
images of the Debian package dataset-fashion-mnist; without it on the 300 that are bundled) and EfficientNet-Lite0
(agreement with float32 on photographs that the calibration did not see). Each β is one program, whose levels are the α.
Verdicts are computed from the figures, beside those that were published, which are labelled as quoted.

Needs the extras `bench` (EfficientNet-Lite0) and `report` (plots; without it there are tables and JSON only). Takes
about a quarter of an hour of one core.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from examples.paper.post_training import published, section, sweep
from examples.paper.report import save, show
from examples.paper.subjects import Subject, efficientnet_lite0, fashion_mnist
from mmac.isa.plan import MAX_ALPHA, MAX_BETA

TITLE = "Post-training term quantization: what was published, and what mmac gives"

ALPHAS = (4, 8, 12, 14, 16, 18, 20, 24, 32, MAX_ALPHA)
BETAS = tuple(range(1, MAX_BETA + 1))
QUICK_ALPHAS, QUICK_BETAS = (8, 20, MAX_ALPHA), (2, 3)


def subjects(quick: bool, photographs: int) -> list[Subject]:
    """What is measured."""
    if quick:
        return [fashion_mnist(limit=60, batch=20)]
    return [fashion_mnist(), efficientnet_lite0(photographs)]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few levels and images of the bundled classifier")
    parser.add_argument(
        "--photographs", type=int, default=96, metavar="N", help="windows of them; default: %(default)s"
    )
    parser.add_argument("--out-dir", type=Path, default=Path("paper"), help="default: %(default)s")
    args = parser.parse_args()
    begin = time.process_time()
    alphas, betas = (QUICK_ALPHAS, QUICK_BETAS) if args.quick else (ALPHAS, BETAS)
    measured = [
        (subject, sweep(subject, alphas, betas, lambda text: print(text, file=sys.stderr, flush=True)))
        for subject in subjects(args.quick, args.photographs)
    ]
    about = "; ".join(f"{subject.name}: {subject.about}" for subject, _ in measured)
    if args.quick:
        about += ". A quick look: so few images show only that it works."
    found = [*(section(subject, points) for subject, points in measured), published(measured)]
    print(about)
    show(found)
    save(found, TITLE, about, args.out_dir, "post_training")
    print(f"{time.process_time() - begin:.0f} s of CPU", file=sys.stderr)


if __name__ == "__main__":
    main()
