"""The public names of seqfast, and the pages of the API reference that list them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def public_modules() -> dict[str, list[ModuleType]]:
    """Page of the API reference -> the modules on it: the parts of seqfast, and what they hold."""
    sys.path.insert(0, str(ROOT))
    try:
        seqfast = importlib.import_module("seqfast")
    except ImportError as error:
        raise SystemExit(f"the API reference needs seqfast, built, and torch: {error}") from error
    pages = {"seqfast": [seqfast]}
    for name in seqfast.__all__:
        try:
            part = getattr(seqfast, name)
        except ImportError as error:  # an extra that is not installed
            print(f"no page of seqfast.{name}: {error}", file=sys.stderr)
            continue
        if not inspect.ismodule(part):
            continue
        inner = [getattr(part, n) for n in part.__all__ if inspect.ismodule(getattr(part, n))]
        if name in ("ops", "reference"):  # their modules are the interface
            found = [info.name for info in pkgutil.iter_modules(part.__path__)]
            found = [n for n in found if n != "base" and not n.startswith("_")]
            inner = [importlib.import_module(f"{part.__name__}.{n}") for n in found]
        pages[name] = [part, *(module for module in inner if hasattr(module, "__all__"))]
    return pages


def names_of(module: ModuleType) -> list[str]:
    """The classes and functions that it offers, by the paths where they are defined."""
    found = []
    for name in getattr(module, "__all__", vars(module)):
        value = getattr(module, name)
        home = getattr(value, "__module__", "") or ""
        listed = hasattr(module, "__all__") or home == module.__name__
        if (
            listed
            and not name.startswith("_")
            and (inspect.isclass(value) or inspect.isfunction(value))
        ):
            found.append(f"{home}.{name}")
    return found


def api_pages() -> dict[str, str]:
    """Name of each page of the API reference -> its text, mkdocstrings's directives."""
    texts: dict[str, str] = {}
    seen: set[str] = set()
    # The shortcuts of seqfast itself come last: each has its text where its part is.
    for page, modules in reversed(public_modules().items()):
        parts = []
        for level, module in zip((2, *[3] * len(modules)), modules, strict=False):
            parts.append(f"{'#' * (level - 1)} {module.__name__}")
            parts.append((module.__doc__ or "").strip())
            for path in names_of(module):
                if path in seen:
                    parts.append(f"- [`{path.rpartition('.')[2]}`][{path}]")
                    continue
                seen.add(path)
                parts.append(f"::: {path}\n    options:\n      heading_level: {level}")
        texts[f"api/{page}.md"] = "\n\n".join(parts) + "\n"
    return dict(reversed(texts.items()))
