"""Temporary: what style systems look through."""
from functools import cache
import torch
from sfumato.nn.vgg import VGG, VGGConfig, random_vgg
SMALL = VGGConfig(widths=(32, 64, 128, 192), convs=(2, 2, 3, 2), pooling="avg", padding="reflect")
@cache
def eyes(name: str, device: torch.device = torch.device("cpu")) -> VGG:
    return random_vgg(SMALL).to(device)
