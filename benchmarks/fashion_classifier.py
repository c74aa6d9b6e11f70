"""Train the classifier of clothes that ships as an oracle: give the file to write."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from sfumato.data.fashion import Fashion
from sfumato.metrics.classifier import FashionClassifier, FashionNet, fit_fashion


def main(out: Path) -> None:
    torch.set_num_threads(1)
    (pixels, labels), (fresh, truth) = (everything(Fashion(split)) for split in ("train", "test"))
    began = time.process_time()
    network = fit_fashion(pixels, labels)
    seconds = time.process_time() - began
    half = {name: tensor.half() for name, tensor in network.state_dict().items()}
    save_file(half, out)
    judge = FashionClassifier.shipped(out)
    parameters = sum(p.numel() for p in FashionNet().parameters())
    print(f"{parameters:,} parameters, {out.stat().st_size:,} bytes, {seconds:.0f} s of one core")
    print(f"accuracy on the training set: {judge.accuracy(pixels, labels):.4f}")
    print(f"accuracy on the test set: {judge.accuracy(fresh, truth):.4f}")
    read = judge.logits(fresh).argmax(1)
    for k, name in enumerate(Fashion("test").facts.classes):
        print(f"  {name:12} {(read[truth == k] == k).float().mean():.3f}")


def everything(dataset: Fashion) -> tuple[torch.Tensor, torch.Tensor]:
    batch = dataset.batch(torch.arange(len(dataset)))
    return batch["image"], batch["label"]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
