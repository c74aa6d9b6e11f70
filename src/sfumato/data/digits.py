"""Handwritten digits, 8 x 8 pixels: the 1797 of the UCI test set that come with scikit-learn."""

from __future__ import annotations

import numpy as np
import torch

from sfumato.data.labelled import Labelled, check_split
from sfumato.errors import MissingExtraError

TRAIN = 1200
"""So few that a large network learns them by heart: watch the distance to the nearest neighbour."""


class Digits(Labelled):
    """Optical digits (Alpaydin and Kaynak, 1998): 1200 to learn from, 597 to test with, labels 0 to 9.

    Raises ``MissingExtraError`` without scikit-learn.
    """

    def __init__(self, split: str = "train", size: int = 8):
        check_split("digits", split)
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise MissingExtraError(
                "The digits come with scikit-learn, which is not installed; "
                "install the extra 'data': pip install 'sfumato[data]'"
            ) from error
        bunch = load_digits()
        # RandomState, unlike newer generators, promises the same shuffle in every release of NumPy.
        order = np.random.RandomState(0).permutation(len(bunch.target))
        rows = order[:TRAIN] if split == "train" else order[TRAIN:]
        super().__init__(
            "digits",
            torch.from_numpy(bunch.images[rows].astype(np.uint8)),
            torch.from_numpy(bunch.target[rows]),
            classes=[str(d) for d in range(10)],
            size=size,
            white=16,
        )
