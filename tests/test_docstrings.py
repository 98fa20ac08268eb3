"""Every public name has a docstring with Args, Returns, Raises and an example that runs."""

from __future__ import annotations

import dataclasses
import doctest
import enum
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqfast

torch = pytest.importorskip("torch", reason="needs torch, for seqfast.nn")

ROOT = Path(__file__).resolve().parents[1]
SPEC = importlib.util.spec_from_file_location("site_api", ROOT / "docs" / "theme" / "api.py")
assert SPEC is not None
assert SPEC.loader is not None
api = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(api)

NAMES = sorted(
    {
        path
        for part in api.public_modules().values()
        for module in part
        for path in api.names_of(module)
    }
)
# A twin may say so instead of repeating the arguments and results.
TWIN = re.compile(r"[Aa]rguments(?:,| and) results.* of\s+`(seqfast\.ops\.[\w.]+)`")
# To be written; the list only ever gets shorter.
UNWRITTEN: set[str] = set()
FENCED = re.compile(r"^ *```python\n(.*?)^ *```", re.M | re.S)


def value_of(path: str) -> Any:
    home, _, name = path.rpartition(".")
    return getattr(importlib.import_module(home), name)


def section(text: str, *names: str) -> str | None:
    """The indented text below a section's title; None without it."""
    titles = "|".join(names)
    found = re.search(rf"^(?:{titles}):\n((?:(?: +.*)?\n)*)", text + "\n", re.M)
    return found[1] if found else None


def arguments_of(value: Any) -> list[str]:
    if dataclasses.is_dataclass(value) and "__init__" not in vars(value):
        return [field.name for field in dataclasses.fields(value) if field.init]
    if fields := getattr(value, "_fields", None):
        return list(fields)
    if inspect.isclass(value) and (
        issubclass(value, enum.Enum) or getattr(value, "_is_protocol", 0)
    ):
        return []
    function = value.__init__ if inspect.isclass(value) else value
    if function in (object.__init__, Exception.__init__) or not inspect.isfunction(function):
        return []
    names = list(inspect.signature(function).parameters)
    return names[1:] if inspect.isclass(value) else names


def raises_something(value: Any) -> bool:
    """Whether its own code raises or checks."""
    function = value
    if inspect.isclass(value):
        function = getattr(value, "__post_init__", vars(value).get("__init__"))
    if getattr(value, "_is_protocol", False):
        return False
    if not inspect.isfunction(function) or hasattr(value, "_fields"):
        return False
    if dataclasses.is_dataclass(value) and function.__name__ == "__init__":
        return False
    return re.search(r"\braise\b|\b_?check\w*\(", inspect.getsource(function)) is not None


def faults_of(value: Any) -> list[str]:
    text = inspect.cleandoc(value.__doc__ or "")
    if inspect.isclass(value) and "__init__" in vars(value):
        # A constructor may have a docstring of its own.
        text += "\n\n" + inspect.cleandoc(vars(value)["__init__"].__doc__ or "")
    faults = []
    if not text:
        return ["no docstring"]
    if twin := TWIN.search(text):
        other = value_of(twin[1])
        faults += [f"its twin has {fault}" for fault in faults_of(other)]
        extra = [name for name in arguments_of(value) if name not in arguments_of(other)]
        faults += [f"its twin has no {name}" for name in extra]
        return faults + ([] if ">>> " in text else ["no example"])
    if names := arguments_of(value):
        listed = section(text, "Args", "Attributes") or ""
        described = set(re.findall(r"[`*]*(\w+)`?(?= *(?:\(|:|,))", listed))
        if inspect.isclass(value):  # fields may have a comment beside them or a text below
            beside = r"^    (\w+): .*(?:#.*|\n    \"\"\")"
            described |= set(re.findall(beside, inspect.getsource(value), re.M))
            if "comment beside each field" in " ".join(text.split()):
                described |= set(names)
        faults += [f"Args without {name}" for name in names if name not in described]
    if inspect.isfunction(value):
        returns = inspect.signature(value).return_annotation
        if returns not in ("None", None) and section(text, "Returns", "Yields") is None:
            faults.append("no Returns")
    if raises_something(value) and section(text, "Raises") is None:
        faults.append("no Raises")
    if ">>> " not in text and not FENCED.search(text):
        faults.append("no example")
    return faults


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNWRITTEN])
def test_shape(name: str) -> None:
    faults = faults_of(value_of(name))
    assert not faults, f"{name}: {', '.join(faults)}"


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNWRITTEN])
def test_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    value = value_of(name)
    for code in FENCED.findall(inspect.cleandoc(value.__doc__ or "")):
        namespace = {"np": np, "seqfast": seqfast, "torch": torch, "BeamSearch": seqfast.BeamSearch}
        exec(code, vars(sys.modules[value.__module__]) | namespace)
    example = doctest.DocTestParser().get_doctest(
        value.__doc__ or "",
        dict(vars(sys.modules[value.__module__])),
        name,
        sys.modules[value.__module__].__file__,
        0,
    )
    needs = re.findall(r"^ *>>> (?:import|from) (\w+)", value.__doc__ or "", re.M)
    for package in needs:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    output: list[str] = []
    runner.run(example, out=output.append)
    assert not runner.failures, "".join(output)
