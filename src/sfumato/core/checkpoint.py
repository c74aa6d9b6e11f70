"""The run folder: configuration, weights, log and checkpoints that survive a kill at any moment.

A checkpoint is written aside, brought to the disk, given a manifest with the checksum of every file
last, and only then renamed into place; the newest one whose manifest verifies is the one that is loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from sfumato.core import durable
from sfumato.core.durable import fault
from sfumato.core.recipe import FORMAT, Recipe
from sfumato.errors import DataError, StorageError, UsageError

KEEP = 2
"""Checkpoints that stay."""
MARGIN = 1.2
"""Free space asked for, in sizes of the last checkpoint."""
DIGEST = "tensors_sha256"
"""The only entry in the model file's metadata: safetensors writes several in random order."""


@dataclass(frozen=True)
class Checkpoint:
    """One saved moment of training, verified when it was found."""

    path: Path
    step: int
    state: Mapping[str, Any]

    def tensors(self, group: str) -> dict[str, Tensor]:
        return load_file(self.path / f"{group}.safetensors")

    @property
    def groups(self) -> list[str]:
        return sorted(file.stem for file in self.path.glob("*.safetensors"))


@dataclass(frozen=True)
class Finding:
    """Whether a part of a run folder is whole, and if not, why."""

    path: str
    reason: str = ""

    @property
    def whole(self) -> bool:
        return not self.reason


class RunFolder:
    """A run on disk. ``create`` a new one or ``open`` what is there; one process at a time trains in it."""

    def __init__(self, path: Path | str, *, disk_wait: float = 600.0, disk_retry: float = 10.0):
        self.path = Path(path)
        self.disk_wait, self.disk_retry = disk_wait, disk_retry
        """Seconds to wait for space on a full disk, and between attempts."""
        self.stopping: Callable[[], bool] = lambda: False
        """Asked while waiting for space; true ends the wait."""
        self._lock: int | None = None

    @classmethod
    def create(cls, path: Path | str, recipe: Recipe) -> RunFolder:
        """Make a new run folder and lock it; a ``UsageError`` if there is a run in it already."""
        folder = cls(path)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.lock()
        if (folder.path / "config.json").exists():
            folder.unlock()
            raise UsageError(f"'{path}' already holds a run; resume it, or choose another folder.")
        recipe.write(folder.path / "config.json")
        return folder

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """The run folder at ``path``; a ``DataError`` if there is none."""
        folder = cls(path)
        if not (folder.path / "config.json").is_file():
            raise DataError(f"'{path}' holds no run: it has no config.json. Give a folder made by training.")
        return folder

    @property
    def recipe(self) -> Recipe:
        """What config.json says."""
        return Recipe.read(self.path / "config.json")

    def amend(self, recipe: Recipe) -> None:
        """From now on it is a run of ``recipe``."""
        recipe.write(self.path / "config.json")

    # --- one trainer at a time -------------------------------------------------------------------

    def lock(self) -> None:
        """Hold the folder until ``unlock`` or the end of the process, however it ends; again does nothing."""
        if self._lock is not None:
            return
        self._lock = durable.hold(self.path / "run.lock", f"The run folder {self.path}")

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def withdraw(self) -> None:
        """Undo ``create`` if no step was taken and no run lies below, so that another try finds no run."""
        below = [
            *self.path.glob("*/config.json"),
            *self.path.glob("log.jsonl"),
            *self.path.glob("checkpoints"),
        ]
        if not below:
            for name in ("config.json", "env.json", "run.lock"):
                (self.path / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # Other things may lie there, which are not ours.
                self.path.rmdir()
        self.unlock()

    # --- checkpoints -----------------------------------------------------------------------------

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def place(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.checkpoints / f"{step:08d}"

    def save(self, step: int, groups: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> Path:
        """Save tensors by group and a JSON state as the checkpoint of ``step``; keep the newest two.

        On a full disk: wait and try again, then ``StorageError``; older checkpoints stay whole.
        """
        return self._patiently(lambda: self._save(step, groups, state))

    def _save(self, step: int, groups: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> Path:
        fault("ckpt.before_write")
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        size = sum(t.numel() * t.element_size() for tensors in groups.values() for t in tensors.values())
        durable.need_space(self.checkpoints, int(MARGIN * size))
        final = self.place(step)
        aside = final.with_suffix(".tmp")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            self._write(aside, step, groups, state)
        except StorageError:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        fault("ckpt.before_rename")
        if final.exists():
            final.rename(final.with_suffix(".old"))
        aside.rename(final)
        durable.sync(self.checkpoints)
        fault("ckpt.after_rename")
        fault("ckpt.before_prune")
        self._prune()
        return final

    def _write(
        self, aside: Path, step: int, groups: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
    ) -> None:
        for group, tensors in groups.items():
            durable.write_tensors(aside / f"{group}.safetensors", tensors)
            fault(f"ckpt.after_{group}")
        durable.write_part(aside / "state.json", state)
        fault("ckpt.before_manifest")
        files = {
            file.name: {"sha256": durable.sha256(file), "bytes": file.stat().st_size}
            for file in sorted(aside.iterdir())
        }
        manifest = {"format": FORMAT, "step": step, "files": files}
        durable.write_part(aside / "manifest.json", manifest | {"sha256": _seal(manifest)})
        durable.sync(aside)

    def _prune(self) -> None:
        for old in self.checkpoints.glob("*.old"):
            shutil.rmtree(old)
        for old in self._saved()[KEEP:]:
            shutil.rmtree(old)

    def tidy(self) -> list[str]:
        """Remove what a killed save left, set damaged checkpoints aside, say which; needs the lock."""
        for torn in self.checkpoints.glob("*.tmp"):
            shutil.rmtree(torn)
        for old in self.checkpoints.glob(
            "*.old"
        ):  # Killed between the two renames: the old one is the only one.
            final = old.with_suffix("")
            if final.exists():
                shutil.rmtree(old)
            else:
                old.rename(final)
        bad = [finding for finding in map(_check, self._saved()) if not finding.whole]
        for finding in bad:
            path = Path(finding.path)
            shutil.rmtree(path.with_suffix(".bad"), ignore_errors=True)
            path.rename(path.with_suffix(".bad"))
        return [f"skipped checkpoint {Path(finding.path).name}: {finding.reason}" for finding in bad]

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that verifies; None if there is none."""
        for path in self._saved():
            if _check(path).whole:
                manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
                state = json.loads((path / "state.json").read_text(encoding="utf-8"))
                return Checkpoint(path, manifest["step"], state)
        return None

    def _saved(self) -> list[Path]:
        """Folders that claim to be checkpoints, newest first."""
        if not self.checkpoints.is_dir():
            return []
        return sorted((p for p in self.checkpoints.iterdir() if p.name.isdigit()), reverse=True)

    def verify(self) -> list[Finding]:
        """Check every part of the folder against its checksum; changes nothing."""
        return [
            _check_config(self),
            _check_model(self.path / "model.safetensors"),
            *map(_check, self._saved()),
        ]

    # --- the model that answers ------------------------------------------------------------------

    def write_model(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace model.safetensors, with a digest of its tensors inside."""
        self._patiently(lambda: self._write_model(tensors))

    def _write_model(self, tensors: Mapping[str, Tensor]) -> None:
        final = self.path / "model.safetensors"
        aside = final.with_name("model.safetensors.tmp")
        try:
            durable.write_tensors(aside, tensors, {DIGEST: _digest(tensors)})
        except StorageError:
            aside.unlink(missing_ok=True)
            raise
        fault("model.before_rename")
        os.replace(aside, final)
        durable.sync(self.path)

    def read_model(self) -> dict[str, Tensor]:
        """The tensors of model.safetensors; a ``DataError`` if it is missing or damaged."""
        path = self.path / "model.safetensors"
        finding = _check_model(path)
        if not finding.whole:
            raise DataError(f"{path} cannot be used: {finding.reason}. Train on, or restore it from a copy.")
        return load_file(path)

    # --- log and fingerprint ---------------------------------------------------------------------

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to log.jsonl."""
        self._patiently(lambda: self._log(json.dumps(record) + "\n"))

    def _log(self, line: str) -> None:
        path = self.path / "log.jsonl"
        with durable.guarded(path), path.open("a", encoding="utf-8") as file:
            end = file.tell()
            try:
                file.write(line)
                file.flush()
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(file.fileno(), end)
                raise

    def records(self) -> list[dict[str, Any]]:
        """The lines of log.jsonl; a line torn by a kill is left out."""
        path = self.path / "log.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}\n")]

    def truncate_log(self, step: int) -> None:
        """Forget what was logged after ``step``, so that a resumed curve does not double."""
        kept = [json.dumps(r) + "\n" for r in self.records() if r.get("step", 0) <= step]
        if (self.path / "log.jsonl").exists():
            durable.write_text(self.path / "log.jsonl", "".join(kept))

    def write_env(self, env: Mapping[str, Any]) -> None:
        durable.write_json(self.path / "env.json", env)

    def read_env(self) -> dict[str, Any]:
        """What env.json says; empty if there is none."""
        path = self.path / "env.json"
        try:
            return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        except ValueError as error:
            raise DataError(
                f"{path} is no JSON: {error}. Delete it; resuming is then not checked."
            ) from error

    def _patiently(self, action: Callable[[], Any]) -> Any:
        return durable.patiently(
            action, patience=self.disk_wait, every=self.disk_retry, stop=lambda: self.stopping()
        )


def _check(path: Path) -> Finding:
    """Compare a checkpoint with its manifest."""
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        files, step = dict(manifest["files"]), int(manifest["step"])
        if manifest.pop("sha256") != _seal(manifest) or step != int(path.name):
            return Finding(str(path), "manifest.json does not match its checksum")
        for name, facts in files.items():
            file = path / name
            if not file.is_file():
                return Finding(str(path), f"{name} is missing")
            if file.stat().st_size != facts["bytes"]:
                return Finding(str(path), f"{name} has {file.stat().st_size} bytes of {facts['bytes']}")
            if durable.sha256(file) != facts["sha256"]:
                return Finding(str(path), f"{name} does not match its checksum")
    except FileNotFoundError:
        return Finding(str(path), "manifest.json is missing")
    except (ValueError, KeyError, TypeError) as error:
        return Finding(str(path), f"manifest.json is damaged ({error!r})")
    return Finding(str(path))


def _seal(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _check_config(folder: RunFolder) -> Finding:
    try:
        _ = folder.recipe
    except (DataError, UsageError, OSError) as error:
        return Finding(str(folder.path / "config.json"), str(error))
    return Finding(str(folder.path / "config.json"))


def _check_model(path: Path) -> Finding:
    if not path.is_file():
        return Finding(str(path), "it is missing")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            digest = (file.metadata() or {}).get(DIGEST)
        tensors = load_file(path)
    except (safetensors.SafetensorError, ValueError) as error:
        return Finding(str(path), f"it is no whole safetensors file ({error})")
    if digest is not None and digest != _digest(tensors):
        return Finding(str(path), "its tensors do not match their checksum")
    return Finding(str(path))


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        flat = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {flat.dtype} {tuple(flat.shape)}\n".encode())
        digest.update(flat.flatten().view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()
