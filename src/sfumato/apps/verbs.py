"""The verbs of the command line: one table; the module of a verb is imported when it is asked for."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Annotated, Any, Union

import tyro


@dataclass(frozen=True)
class Verb:
    """A command: the module with its ``Options`` and ``main(options)``."""

    module: str
    sentence: str
    open: bool = False
    """Whether it also takes settings that only a system knows (``Options.settings``)."""


VERBS = {
    "list": Verb("listing", "Show the systems, the data, the models and the runs there are."),
    "describe": Verb("describe", "Explain a system: idea, paper, equations, presets, figures."),
    "cite": Verb("cite", "Print the BibTeX entries to cite for a run, a model or a system."),
    "doctor": Verb("doctor", "Check this machine, with a remedy for each fault."),
    "data": Verb("data", "Show what a dataset holds, or report on a folder of pictures."),
    "curate": Verb("curate", "Make shards to train on from pages or a folder of pictures with texts."),
    "train": Verb("train", "Train a system on a dataset or on your own pictures.", open=True),
    "generate": Verb("generate", "Make pictures from a prompt, from a label or from nothing."),
    "walk": Verb("walk", "Walk through latent space from picture to picture, as a film."),
    "branch": Verb("branch", "Let pictures share their way out of the noise up to a moment, then part."),
    "mix": Verb("mix", "Mix the coarse styles of some seeds with the fine styles of others."),
    "vary": Verb("vary", "Make pictures that are like a given one, and not the same."),
    "interpolate": Verb("interpolate", "Turn pictures into one another by what they show, as a film."),
    "textdiff": Verb("textdiff", "Change pictures by the difference between two texts."),
    "layout": Verb("layout", "Make pictures in which given things stand in given boxes."),
    "translate": Verb("translate", "Turn pictures of one domain into pictures of another."),
    "letters": Verb("letters", "Write a text in fonts that a system has learned, or between them."),
    "stylize": Verb("stylize", "Paint pictures anew in the style of others.", open=True),
    "dream": Verb("dream", "Let a network dream upon pictures, or fall into them as a film.", open=True),
    "upscale": Verb("upscale", "Make pictures larger, with detail that was not there."),
    "read": Verb("read", "Read the words in pictures, with how sure the reader is."),
    "reconstruct": Verb("reconstruct", "Send pictures through an autoencoder and back."),
    "project": Verb("project", "Find the latents whose pictures come closest to given ones."),
    "edit": Verb("edit", "Change pictures, or new ones, as words say."),
    "clip": Verb("clip", "Compare pictures with words: score them, choose a label, search a folder."),
    "complete": Verb("complete", "Finish pictures of which only the top is kept."),
    "caption": Verb("caption", "Describe pictures anew, for a generator to learn from."),
    "physics": Verb("physics", "Ask which equations can generate data, and watch their particles."),
    "evaluate": Verb("evaluate", "Measure how good a run's pictures are."),
    "bpd": Verb("bpd", "Bound how many bits a number of a picture costs a diffusion."),
    "export": Verb("export", "Write a run as a diffusers folder."),
    "convert": Verb("convert", "Write a single file of Stable Diffusion as a diffusers folder."),
    "verify": Verb("verify", "Check that a run folder is whole."),
    "demo": Verb("demo", "Make a contact sheet with the model that comes with the package."),
    "completion": Verb("completion", "Print the completion script for bash, zsh or fish."),
}

MARKERS = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone, tyro.conf.AvoidSubcommands)
"""How options look, everywhere."""


def module_of(name: str) -> Any:
    """The module that does what the verb says."""
    return importlib.import_module(f"sfumato.apps.{VERBS[name].module}")


def everything() -> Any:
    """The options of all verbs as one type, from which shells learn what can be typed."""
    verbs = (Annotated[module_of(name).Options, tyro.conf.subcommand(name)] for name in VERBS)
    return Union[tuple(verbs)]  # noqa: UP007 - built at run time
