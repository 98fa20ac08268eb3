"""What examples share that train for a while: settings, checkpoints, Ctrl-C at a good moment."""

import gzip
import hashlib
import io
import lzma
import os
import signal
import sys
import zipfile
import zlib
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

# What shapes a run and so must be the same when it is resumed: by default, as a preset, what.
Settings = Mapping[str, tuple[Any, Any, str]]


def read_text(program: str, path: Path) -> str:
    """A file's text, plain, .xz or .gz."""
    unpack = {".xz": lzma.decompress, ".gz": gzip.decompress}.get(path.suffix, bytes)
    try:
        return unpack(path.read_bytes()).decode("utf-8")
    except (lzma.LZMAError, zlib.error, gzip.BadGzipFile, EOFError) as error:
        sys.exit(f"{program}: {path} is no {path.suffix} file: {error}")
    except OSError as error:
        sys.exit(f"{program}: cannot read {path}: {error.strerror}")
    except UnicodeDecodeError as error:
        sys.exit(f"{program}: {path} is not UTF-8 text: {error.reason} at byte {error.start}")


def option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def add_settings(
    parser: ArgumentParser, settings: Settings, preset: str, choices: Mapping[str, Collection[str]]
) -> None:
    """An option for each; a pair of options for a bool."""
    group = parser.add_argument_group("settings", f"kept in the checkpoint: default, {preset}")
    for name, (default, other, text) in settings.items():
        help = f"{text}: {default}, {other}"
        if isinstance(default, bool):
            group.add_argument(option(name), action=BooleanOptionalAction, help=help)
        else:
            kind, among = type(default), choices.get(name)
            group.add_argument(option(name), type=kind, choices=among, help=help)


def given_settings(args: Namespace, settings: Settings) -> dict[str, Any]:
    return {name: getattr(args, name) for name in settings if getattr(args, name) is not None}


def settle(
    program: str,
    settings: Settings,
    args: Namespace,
    given: dict[str, Any],
    saved: dict[str, Any] | None,
    preset: bool,
    free: Collection[str],
) -> None:
    """Sets each setting: as given, as in the checkpoint, as in the preset, or by default.

    Beside a checkpoint only the `free` ones may differ from its own.
    """
    if saved is None:
        chosen = {name: values[preset] for name, values in settings.items()} | given
    else:
        if preset:
            given = {name: values[1] for name, values in settings.items()} | given
        wrong = [name for name in given if name not in free and given[name] != saved.get(name)]
        if wrong:
            lines = [f"{option(name)} {given[name]}, there {saved.get(name)}" for name in wrong]
            sys.exit(f"{program}: {args.checkpoint} was made with others: {'; '.join(lines)}")
        chosen = saved | given
    for name in settings:
        setattr(args, name, chosen[name])


@contextmanager
def held_interrupts() -> Iterator[None]:
    """Ctrl-C waits until the block is done."""
    came = False

    def note(*_: object) -> None:
        nonlocal came
        came = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


def random_state(device: torch.device | str) -> list[torch.Tensor]:
    """Of torch's generators, those that a run on this device draws from."""
    states = [torch.get_rng_state()]
    if torch.device(device).type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def restore_random_state(states: list[torch.Tensor], device: torch.device | str) -> None:
    """What a run on a GPU left of its generator counts on a GPU alone."""
    torch.set_rng_state(states[0])
    if torch.device(device).type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)


def save_checkpoint(program: str, path: Path, payload: dict[str, Any]) -> None:
    """Written beside the old one and put in its place when whole."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with held_interrupts():
            with part.open("wb") as file:
                torch.save(payload, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
    except OSError as error:
        sys.exit(f"{program}: cannot write {path}: {error.strerror}")
    finally:
        with suppress(OSError):
            part.unlink()


def load_checkpoint(program: str, path: Path, format: str) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        sys.exit(f"{program}: cannot read checkpoint {path}: {error.strerror}")
    try:
        # torch does not look at the checksums it wrote.
        if broken := zipfile.ZipFile(io.BytesIO(content)).testzip():
            raise ValueError(f"the checksum of {broken} is wrong")
        payload = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        sys.exit(f"{program}: checkpoint {path} is damaged: {reason}")
    got = payload.get("format") if isinstance(payload, dict) else type(payload).__name__
    if got != format:
        sys.exit(f"{program}: {path} must be a checkpoint of format {format!r}, got {got!r}")
    return payload


def fingerprint(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
