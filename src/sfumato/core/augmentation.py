"""What happens to pictures before a critic sees them, with randomness of their own and ADA's dose.

DiffAugment: Zhao et al. 2020, arXiv 2006.10738. ADA: Karras et al. 2020, arXiv 2006.06676, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.core.rng import Rng
from sfumato.data.augment import ADA_CHANCES, DIFF_CHANCES, ada_augment, diff_augment

EVERY = 4
"""Steps after which ADA thinks again."""


@dataclass(frozen=True)
class AugmentConfig:
    """Which augmentation, and how ADA's dose follows the critic."""

    kind: Literal["none", "diff", "ada"] = "none"
    """DiffAugment always does all it can; each of ADA's operations happens with the chance of its dose."""
    target: float = 0.6
    """Mean sign of the critic's answers to real pictures that ADA aims at."""
    images: int = 500_000
    """Pictures over which ADA's dose could go from 0 to 1."""


class Augmentation(nn.Module):
    """The same treatment for real and fake pictures; each process keeps a dose by what its critic answers."""

    dose: Tensor
    signs: Tensor

    def __init__(self, config: AugmentConfig):
        super().__init__()
        self.config = config
        self.register_buffer("dose", torch.zeros(()))
        self.register_buffer("signs", torch.zeros(()))

    def chances(self, rng: Rng) -> Float[Tensor, "b k"]:
        """Uniform numbers, from which what happens to each picture follows."""
        count = {"none": 0, "diff": DIFF_CHANCES, "ada": ADA_CHANCES}[self.config.kind]
        return (
            torch.special.ndtr(rng.normal(count)).to(self.dose.device) if count else torch.empty(len(rng), 0)
        )

    def forward(self, x: Float[Tensor, "b c h w"], chances: Float[Tensor, "b k"]) -> Float[Tensor, "b c h w"]:
        match self.config.kind:
            case "none":
                return x
            case "diff":
                return diff_augment(x, chances)
            case "ada":
                return ada_augment(x, chances, self.dose)

    @torch.no_grad()
    def follow(self, answers: Float[Tensor, "b ..."], step: int) -> None:
        """A higher dose while the critic is too sure of real pictures, a lower one otherwise."""
        if self.config.kind != "ada":
            return
        self.signs += answers.sign().mean() / EVERY
        if step % EVERY == EVERY - 1:
            move = len(answers) * EVERY / self.config.images
            self.dose += (self.signs - self.config.target).sign() * move
            self.dose.clamp_(0, 1)
            self.signs.zero_()
