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
    "layout": "sfumato.systems.diffusion.layout:LayoutToImage",
    "semantic": "sfumato.systems.diffusion.semantic:SemanticSynthesis",
    "inpainting": "sfumato.systems.diffusion.inpainting:Inpainting",
    "ldmsr": "sfumato.systems.diffusion.ldmsr:LDMSR",
    "sr3": "sfumato.systems.diffusion.sr3:SR3",
    "stylegan": "sfumato.systems.gans.stylegan:StyleGAN",
    "projected": "sfumato.systems.gans.projected:ProjectedGAN",
    "srgan": "sfumato.systems.gans.srgan:SRGAN",
    "pix2pix": "sfumato.systems.gans.pix2pix:Pix2Pix",
    "cyclegan": "sfumato.systems.gans.cyclegan:CycleGAN",
    "zi2zi": "sfumato.systems.style.zi2zi:Zi2Zi",
    "stackgan": "sfumato.systems.text.stackgan:StackGAN",
    "dfgan": "sfumato.systems.text.dfgan:DFGAN",
    "vgg": "sfumato.systems.style.vgg:VGGNet",
    "faststyle": "sfumato.systems.style.faststyle:FastStyle",
    "adain": "sfumato.systems.style.adain:AdaIN",
    "gatys": "sfumato.systems.style.gatys:Gatys",
    "dream": "sfumato.systems.style.dream:Dreamer",
    "htr": "sfumato.systems.reading.htr:AttentionHTR",
    "dalle": "sfumato.systems.text.dalle:DALLE",
    "clip": "sfumato.systems.text.clip:CLIP",
    "captioner": "sfumato.systems.text.captioner:Captioner",
    "prior": "sfumato.systems.text.prior:UnclipPrior",
    "unclip": "sfumato.systems.text.unclip:Unclip",
    "t5": "sfumato.systems.text.t5:T5",
    "imagen": "sfumato.systems.diffusion.imagen:Imagen",
    "glide": "sfumato.systems.diffusion.glide:GLIDE",
}

DATASETS = {
    "shapes": "sfumato.data.shapes:Shapes",
    "shapes-in-brief": "sfumato.data.shapes.dataset:in_brief",
    "shapes-in-full": "sfumato.data.shapes.dataset:in_full",
    "shapes-alone": "sfumato.data.shapes.dataset:alone",
    "one-shape": "sfumato.data.shapes.one:OneShape",
    "corner-shape": "sfumato.data.shapes.corner:CornerShape",
    "described-shape": "sfumato.data.shapes.retold:described_shape",
    "described-shapes": "sfumato.data.shapes.retold:described_shapes",
    "alt-text-shape": "sfumato.data.shapes.retold:alt_text_shape",
    "related-shapes": "sfumato.data.shapes.related:RelatedShapes",
    "shape-stories": "sfumato.data.shapes.related:shape_stories",
    "digits": "sfumato.data.digits:Digits",
    "fashion": "sfumato.data.fashion:Fashion",
    "faces": "sfumato.data.faces:Faces",
    "photos": "sfumato.data.photos:Photos",
    "textures": "sfumato.data.textures:Textures",
    "stylings": "sfumato.data.stylings:Stylings",
    "sights": "sfumato.data.sights:Sights",
    "gaussians": "sfumato.data.gaussians:gaussians",
    "single-shapes": "sfumato.data.shapes.single:SingleShapes",
    "crops": "sfumato.data.crops:Crops",
    "photographs": "sfumato.data.photos:photographs",
    "edges-to-shapes": "sfumato.data.pairs:edges_to_shapes",
    "labels-to-shapes": "sfumato.data.pairs:labels_to_shapes",
    "labels-to-scenes": "sfumato.data.scenery:Scenery",
    "depth-to-shapes": "sfumato.data.pairs:depth_to_shapes",
    "plain-to-striped": "sfumato.data.domains:plain_to_striped",
    "warm-to-cool": "sfumato.data.domains:warm_to_cool",
    "seasons": "sfumato.data.domains:Seasons",
    "glyphs": "sfumato.data.glyphs.dataset:Glyphs",
    "fonts": "sfumato.data.glyphs.pairs:fonts",
    "font-files": "sfumato.data.glyphs.pairs:font_files",
    "fonts-unpaired": "sfumato.data.glyphs.pairs:FontDomains",
    "words": "sfumato.data.words:Words",
    "curved-words": "sfumato.data.words:curved_words",
    "handwriting": "sfumato.data.words:handwriting",
    "folder": "sfumato.data.folder:Folder",
}


def find(name: str, table: Mapping[str, str], what: str) -> Any:
    """Import what ``name`` stands for in ``table``; an unknown name is a ``UsageError`` with a suggestion."""
    if name not in table:
        raise UsageError(f"Unknown {what} '{name}'{nearest(name, table)}")
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
