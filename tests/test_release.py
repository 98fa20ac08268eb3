"""What a release says of itself: one version everywhere, files that are complete."""

from __future__ import annotations

import re
from pathlib import Path

import seqfast

ROOT = Path(__file__).resolve().parents[1]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_one_version() -> None:
    written = re.search(r'^version = "(.+)"$', text("pyproject.toml"), re.MULTILINE)
    assert written is not None
    version = written[1]
    assert seqfast.__version__ == version
    assert f"\n## {version}\n" in text("CHANGELOG.md")
    assert f"\nversion: {version}\n" in text("CITATION.cff")
    # Nowhere else, so that a release changes three lines.
    sources = [*ROOT.glob("seqfast/**/*.py"), *ROOT.glob("csrc/**/*"), *ROOT.glob("cmake/*")]
    assert [p for p in sources if p.is_file() and f'"{version}"' in p.read_text("utf-8")] == []


def test_citation_has_what_the_format_asks_for() -> None:
    keys = re.findall(r"^([a-z-]+):", text("CITATION.cff"), re.MULTILINE)
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= set(keys)
    assert len(keys) == len(set(keys))
