"""Train the small Fashion-MNIST classifier that is bundled with mmac, and export it to ONNX.

The network is small enough to simulate cycle by cycle and still has the parts that matter to a compiler: dense,
strided, depthwise and pointwise convolutions, batch norm, ReLU, residual additions, a global average pool and a
Linear layer.  The input is `image`, float32 [batch, 1, 28, 28] in 0..1 (a uint8 pixel divided by 255).  There is
no other normalisation: the first batch norm absorbs it, so an 8-bit input quantizes without any error.

    apt-get install dataset-fashion-mnist                       # or --data FOLDER with the four idx.gz files
    python examples/train_fashion_mnist.py --out-dir cli/mmac/cli/data

Needs torch, onnx and onnxruntime.  Takes some minutes on two cores; for a quick look: `--epochs 1 --limit 2000`.
Progress goes to stderr, and one line of JSON with the measured accuracy to stdout.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
MODEL_FILE = "fashion_mnist_cnn.onnx"
DATA_FILE = "fashion_mnist_test.npz"
OPSET = 17

Images = npt.NDArray[np.uint8]


# ---------------------------------------------------------------------------------------------------------- data


def read_idx(path: Path) -> Images:
    """The array in a gzipped idx file of unsigned bytes (LeCun's MNIST format)."""
    raw = gzip.decompress(path.read_bytes())
    if raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path}: starts with {raw[:3].hex()}, not with 000008, the mark of an idx file of bytes")
    rank = raw[3]
    shape = np.frombuffer(raw, ">u4", count=rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def read_split(folder: Path, split: str) -> tuple[Images, Images]:
    """Images uint8 [n, 28, 28] and labels uint8 [n] of the split `train` or `t10k`."""
    images = read_idx(folder / f"{split}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{split}-labels-idx1-ubyte.gz")
    return images, labels


def to_input(images: Images) -> npt.NDArray[np.float32]:
    """What the model takes: float32 [n, 1, 28, 28] in 0..1."""
    return images[:, None].astype(np.float32) / np.float32(255)


def augment(images: Tensor, generator: torch.Generator, margin: int = 2) -> Tensor:
    """Mirror half of the images and shift each of them by up to `margin` pixels in both directions."""
    n, _, height, width = images.shape
    mirrored = torch.rand(n, generator=generator) < 0.5
    images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    padded = F.pad(images, [margin] * 4)[:, 0]
    dy, dx = torch.randint(0, 2 * margin + 1, (2, n, 1, 1), generator=generator)
    rows = dy + torch.arange(height)[None, :, None]
    columns = dx + torch.arange(width)[None, None, :]
    return padded[torch.arange(n)[:, None, None], rows, columns][:, None]


# --------------------------------------------------------------------------------------------------------- model


class ConvBn(nn.Module):
    """Convolution, batch norm and, unless `relu` is false, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, relu: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.act = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output from [batch, channels, height, width]."""
        y: Tensor = self.act(self.bn(self.conv(x)))
        return y


class Separable(nn.Sequential):
    """A depthwise 3x3 convolution followed by a pointwise one."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        self.depthwise = ConvBn(inputs, inputs, 3, stride=stride, groups=inputs)
        self.pointwise = ConvBn(inputs, outputs, 1, relu=relu)


class Residual(nn.Module):
    """relu(x + body(x)), with a body of two layers that keep the shape."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output from [batch, channels, height, width]."""
        y: Tensor = self.act(x + self.second(self.first(x)))
        return y


class FashionCnn(nn.Module):
    """36 thousand parameters and 3.8 million multiply-accumulates per image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBn(1, 16, 3)  # 28x28
        self.down1 = ConvBn(16, 24, 3, stride=2)  # 14x14
        self.block1 = Residual(ConvBn(24, 24, 3), ConvBn(24, 24, 3, relu=False))
        self.down2 = Separable(24, 64, stride=2)  # 7x7
        self.block2 = Residual(Separable(64, 64), Separable(64, 64, relu=False))
        self.widen = Separable(64, 128)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(128, len(CLASSES))

    def forward(self, image: Tensor) -> Tensor:
        """Logits [batch, 10] of images [batch, 1, 28, 28] in 0..1."""
        x = self.block1(self.down1(self.stem(image)))
        x = self.widen(self.block2(self.down2(x)))
        logits: Tensor = self.classifier(self.pool(x).flatten(1))
        return logits


# ------------------------------------------------------------------------------------------------------ training


def train(images: Images, labels: Images, *, epochs: int, batch: int, rate: float, seed: int) -> FashionCnn:
    """Train from scratch by SGD with a one-cycle schedule; the model comes back in evaluation mode."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.from_numpy(to_input(images)), torch.from_numpy(labels.astype(np.int64))
    model = FashionCnn()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = -(-len(x) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps, pct_start=0.2)
    started = time.perf_counter()
    for epoch in range(epochs):
        loss_sum, right = 0.0, 0
        for chosen in torch.split(torch.randperm(len(x), generator=generator), batch):
            logits = model(augment(x[chosen], generator))
            loss = F.cross_entropy(logits, y[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            loss_sum += float(loss.detach()) * len(chosen)
            right += int((logits.argmax(1) == y[chosen]).sum())
        log(
            f"epoch {epoch + 1}/{epochs}: loss {loss_sum / len(x):.4f}, training accuracy "
            f"{100 * right / len(x):.2f} %, {time.perf_counter() - started:.0f} s"
        )
    return model.eval()


def log(text: str) -> None:
    """Report progress on stderr."""
    print(text, file=sys.stderr, flush=True)


# -------------------------------------------------------------------------------------------------------- export


def write_onnx(model: FashionCnn, path: Path) -> None:
    """Write the model with `batch` as a free dimension and batch norm kept as nodes (mmac folds it itself)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's older exporter needs no further package
        torch.onnx.export(
            model,
            (torch.zeros(1, 1, 28, 28),),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            training=torch.onnx.TrainingMode.PRESERVE,  # otherwise batch norm is folded away here
            do_constant_folding=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )
    proto = onnx.load(path)
    proto.graph.name = "fashion_mnist_cnn"
    onnx.helper.set_model_props(proto, {"classes": ",".join(CLASSES), "input": "uint8 grey pixels / 255"})
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def write_samples(
    path: Path,
    train_images: Images,
    test: tuple[Images, Images],
    *,
    per_class: int = 30,
    calibration: int = 64,
    seed: int,
) -> None:
    """Write the first test images of each class, and a random choice of training images for calibration."""
    images, labels = test
    chosen = np.sort(np.concatenate([np.flatnonzero(labels == c)[:per_class] for c in range(len(CLASSES))]))
    sample = np.random.default_rng(seed).choice(len(train_images), calibration, replace=False)
    with path.open("wb") as file:
        np.savez_compressed(
            file, images=images[chosen], labels=labels[chosen], calibration=train_images[np.sort(sample)]
        )


def write_beside(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file in the same folder, then rename it: never a partial output."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder) / path.name
        write(part)
        os.replace(part, path)


def accuracy(model: Path, images: Images, labels: Images, batch: int = 500) -> float:
    """The fraction of right answers that onnxruntime gives."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    right = 0
    for start in range(0, len(images), batch):
        (logits,) = session.run(["logits"], {"image": to_input(images[start : start + batch])})
        right += int((logits.argmax(1) == labels[start : start + batch]).sum())
    return right / len(images)


# ----------------------------------------------------------------------------------------------------------- main


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line and check that the data is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"), help="the idx.gz files")
    parser.add_argument("--out-dir", type=Path, default=Path(), help="where the two files go (default: here)")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=0.1, help="peak learning rate")
    parser.add_argument("--limit", type=int, help="train on that many images only (default: on all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    if not (options.data / "train-images-idx3-ubyte.gz").is_file():
        parser.error(f"--data: {options.data} has no train-images-idx3-ubyte.gz; apt-get install dataset-fashion-mnist")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Train, export, measure."""
    options = parse_arguments(arguments)
    torch.set_num_threads(options.threads)
    images, labels = read_split(options.data, "train")
    test = read_split(options.data, "t10k")
    model = train(
        images[: options.limit],
        labels[: options.limit],
        epochs=options.epochs,
        batch=options.batch,
        rate=options.rate,
        seed=options.seed,
    )
    options.out_dir.mkdir(parents=True, exist_ok=True)
    onnx_file, data_file = options.out_dir / MODEL_FILE, options.out_dir / DATA_FILE
    write_beside(onnx_file, lambda part: write_onnx(model, part))
    write_beside(data_file, lambda part: write_samples(part, images, test, seed=options.seed))
    bundled = np.load(data_file)
    result = {
        "model": str(onnx_file),
        "data": str(data_file),
        "parameters": sum(p.numel() for p in model.parameters()),
        "test_accuracy": accuracy(onnx_file, *test),
        "sample_accuracy": accuracy(onnx_file, bundled["images"], bundled["labels"]),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
