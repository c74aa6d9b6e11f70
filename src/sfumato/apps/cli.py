"""The command ``sfumato``: it finds the verb, reads its options, and turns errors into exit codes."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import Any

import tyro

from sfumato import __version__
from sfumato.apps.talk import stderr, write
from sfumato.apps.verbs import MARKERS, VERBS, module_of
from sfumato.errors import SfumatoError, StorageError, UsageError, nearest

TOUR = """\
sfumato {version}: pictures out of noise, every system beside its paper.

Three things to try:
  sfumato generate "a red circle above a blue square"   four pictures, in seconds
  sfumato train ddpm digits --out runs/digits           a system from scratch, in minutes
  sfumato train ldm laptop --data ./my_photos           on your own JPEG, PNG and WebP files

What there is:      sfumato list     then   sfumato describe ddpm
All commands:       sfumato --help
Is all well here?   sfumato doctor
"""


OUT_OF_MEMORY = ("out of memory", "allocate memory", "not enough memory")
"""How PyTorch's errors say it on GPUs, Linux and Windows; they are plain ``RuntimeError``s on CPUs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, or what ``sfumato.errors`` says, or 130 after Ctrl-C."""
    # Read when torch loads: threads that spin while they wait made a busy machine fifty times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(args)
    except SfumatoError as error:
        if os.environ.get("SFUMATO_DEBUG") or {"-v", "--verbose"} & set(args):
            raise
        return complain(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f" '{error.filename}'" if error.filename else ""
        return complain(StorageError(f"{error.strerror or error}{where}; check path, rights and disk"))
    except (MemoryError, RuntimeError) as error:
        if not any(words in str(error).lower() for words in OUT_OF_MEMORY) and type(error) is not MemoryError:
            raise
        return complain(
            SfumatoError("Memory is full; ask for smaller or fewer pictures, or train with a smaller --batch")
        )
    except KeyboardInterrupt:
        stderr().print("stopped", style="yellow")
        return 130
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0


def complain(error: SfumatoError) -> int:
    """Print an error as one friendly line and return its exit code."""
    stderr().print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
    return error.exit_code


def _dispatch(args: list[str]) -> int:
    if not args:
        write(TOUR.format(version=__version__).rstrip())
        return 0
    name, rest = args[0], args[1:]
    if name in ("-h", "--help", "help"):
        return _dispatch([rest[0], "--help"]) if rest else _help()
    if name == "--version":
        write(f"sfumato {__version__}")
        return 0
    if name not in VERBS:
        raise UsageError(f"sfumato has no command '{name}'{nearest(name, VERBS)}")
    return int(module_of(name).main(parse(name, rest)))


def _help() -> int:
    write("usage: sfumato COMMAND [OPTIONS]\n")
    write("\n".join(f"  {name:<11} {verb.sentence}" for name, verb in VERBS.items()))
    write("\nsfumato COMMAND --help shows the options of one command, with an example.")
    return 0


def parse(name: str, rest: Sequence[str]) -> Any:
    """The options of a verb; unknown ones end the program with a suggestion (``SystemExit``)."""
    module = module_of(name)
    if not VERBS[name].open:
        return tyro.cli(module.Options, prog=f"sfumato {name}", args=list(rest), config=MARKERS)
    mine, settings = split(rest, module.Options)
    try:
        options = tyro.cli(module.Options, prog=f"sfumato {name}", args=mine, config=MARKERS)
    except SystemExit as stop:
        if stop.code == 0:
            module.help_on_settings(mine)
        raise
    return dataclasses.replace(options, settings=tuple(settings))


def split(args: Sequence[str], options: type) -> tuple[list[str], list[str]]:
    """Part the arguments that ``options`` knows from the settings, which follow with their values.

    >>> from sfumato.apps.verbs import Verb
    >>> split(["list", "--network.channels", "64", "--open"], Verb)
    (['list', '--open'], ['--network.channels', '64'])
    """
    known = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(options)}
    known |= {"-q", "-v", "-h", "--help"}
    mine: list[str] = []
    settings: list[str] = []
    current = mine
    for arg in args:
        if arg.startswith("-") and not arg[1:2].isdigit():
            current = mine if arg.partition("=")[0].replace("_", "-") in known else settings
        current.append(arg)
    return mine, settings
