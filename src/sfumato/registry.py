"""The one table of systems and datasets: names and where they live. Nothing is imported until asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from sfumato.errors import UsageError, nearest

SYSTEMS = {
    "ae": "sfumato.systems.autoencoders.ae:Autoencoder",
    "vae": "sfumato.systems.autoencoders.vae:VAE",
    "vqvae": "sfumato.systems.autoencoders.vqvae:VQVAE",
    "kl": "sfumato.systems.autoencoders.kl:KL",
    "ddpm": "sfumato.systems.diffusion.ddpm:DDPM",
    "adm": "sfumato.systems.diffusion.adm:ADM",
    "edm": "sfumato.systems.diffusion.edm:EDM",
    "flow": "sfumato.systems.diffusion.flow:Flow",
    "pfgm": "sfumato.systems.diffusion.pfgm:PFGM",
    "pfgmpp": "sfumato.systems.diffusion.pfgmpp:PFGMPP",
    "yukawa": "sfumato.systems.diffusion.yukawa:Yukawa",
    "gan": "sfumato.systems.gans.gan:GAN",
    "dcgan": "sfumato.systems.gans.dcgan:DCGAN",
    "cgan": "sfumato.systems.gans.cgan:CGAN",
    "ldm": "sfumato.systems.diffusion.ldm:LDM",
    "stylegan": "sfumato.systems.gans.stylegan:StyleGAN",
    "projected": "sfumato.systems.gans.projected:ProjectedGAN",
    "srgan": "sfumato.systems.gans.srgan:SRGAN",
    "pix2pix": "sfumato.systems.gans.pix2pix:Pix2Pix",
    "cyclegan": "sfumato.systems.gans.cyclegan:CycleGAN",
    "stackgan": "sfumato.systems.text.stackgan:StackGAN",
    "dfgan": "sfumato.systems.text.dfgan:DFGAN",
}

DATASETS = {
    "shapes": "sfumato.data.shapes:Shapes",
    "shapes-in-brief": "sfumato.data.shapes.dataset:in_brief",
    "one-shape": "sfumato.data.shapes:OneShape",
    "digits": "sfumato.data.digits:Digits",
    "fashion": "sfumato.data.fashion:Fashion",
    "faces": "sfumato.data.faces:Faces",
    "photos": "sfumato.data.photos:Photos",
    "gaussians": "sfumato.data.gaussians:gaussians",
    "single-shapes": "sfumato.data.shapes.single:SingleShapes",
    "photographs": "sfumato.data.photos:photographs",
    "edges-to-shapes": "sfumato.data.pairs:edges_to_shapes",
    "labels-to-shapes": "sfumato.data.pairs:labels_to_shapes",
    "depth-to-shapes": "sfumato.data.pairs:depth_to_shapes",
    "plain-to-striped": "sfumato.data.domains:plain_to_striped",
    "warm-to-cool": "sfumato.data.domains:warm_to_cool",
    "seasons": "sfumato.data.domains:Seasons",
    "folder": "sfumato.data.folder:Folder",
}


def find(name: str, table: Mapping[str, str], what: str) -> Any:
    """Import what ``name`` stands for in ``table``; an unknown name is a ``UsageError`` with a suggestion."""
    if name not in table:
        raise UsageError(f"Unknown {what} '{name}'{nearest(name, table)}")
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
