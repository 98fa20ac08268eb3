"""Runs all Python blocks of the README and docs/, types the README's, checks links and the site.

A block runs by itself. With `<!-- continues -->` on the line above its fence it goes on where the
block before it stopped. `<!-- needs: gensim -->` names packages that it uses without importing
them; without a package the block is skipped.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import textwrap
import types
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(
    r"^(?P<marks>(?:[ ]*<!--[^\n]*-->[ ]*\n)*)"
    r"(?P<indent>[ ]*)```python[^\n]*\n(?P<code>.*?)^[ ]*```",
    re.M | re.S,
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^[ ]*```.*?^[ ]*```[ ]*$", re.M | re.S)
HEADING = re.compile(r"^#+ +(.*?)\s*(?:\{.*\})?$", re.M)


@dataclass
class Block:
    """The code of a block, padded to stand on the line where the page has it, and what it needs."""

    page: Path
    code: str
    needs: list[str]

    def missing(self) -> list[str]:
        found = [*self.needs]
        for node in ast.walk(ast.parse(self.code)):
            if isinstance(node, ast.Import):
                found += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.append(node.module)
        names = {name.partition(".")[0] for name in found}
        return sorted(name for name in names if importlib.util.find_spec(name) is None)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def chains_of(page: Path) -> list[list[Block]]:
    """The blocks of a page, those that continue each other together."""
    text = page.read_text(encoding="utf-8")
    chains: list[list[Block]] = []
    for match in BLOCK.finditer(text):
        marks = match["marks"]
        line = text.count("\n", 0, match.start("code"))
        code = "\n" * line + textwrap.dedent(match["code"])
        needs = re.findall(r"<!-- needs: (.*?) -->", marks)
        block = Block(page, code, [name.strip() for names in needs for name in names.split(",")])
        if "<!-- continues -->" in marks:
            chains[-1].append(block)
        else:
            chains.append([block])
    return chains


CHAINS = {
    f"{name_of(page)}-{number}": chain
    for page in PAGES
    for number, chain in enumerate(chains_of(page), 1)
}


@pytest.mark.parametrize("name", CHAINS)
def test_block_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = CHAINS[name]
    if missing := sorted({name for block in chain for name in block.missing()}):
        pytest.skip(f"needs {', '.join(missing)}")
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in chain:
        exec(compile(block.code, str(block.page), "exec"), module.__dict__)


def test_readme_blocks_are_typed(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="needs mypy")
    pytest.importorskip("torch", reason="needs torch, whose types the blocks use")
    files = []
    for number, chain in enumerate(chains_of(ROOT / "README.md"), 1):
        files.append(tmp_path / f"block_{number}.py")
        files[-1].write_text("\n".join(block.code.lstrip("\n") for block in chain))
    command = [sys.executable, "-m", "mypy", "--strict", *map(str, files)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def anchors_of(page: Path) -> set[str]:
    """The names that a page's headings have in links, as GitHub and as the site make them."""
    names: set[str] = set()
    for title in HEADING.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).strip()
        names |= {slug.replace(" ", "-"), re.sub(r"[- ]+", "-", slug)}
    return names


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", FENCED.sub("", page.read_text(encoding="utf-8")))
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        if re.match(r"(?:\.\./)*(?:docs/)?api/", path):
            continue  # made with the site, which checks them
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{name_of(page)}: {target} leads nowhere"
        if anchor and place.suffix == ".md":
            assert anchor in anchors_of(place), f"{name_of(page)}: no heading for {target}"


def test_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    for package in ("mkdocs", "material", "mkdocstrings", "mathjax", "matplotlib"):
        pytest.importorskip(package, reason=f"needs {package}, from pip install '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # a notice of the theme about itself
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment
    )
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stderr, result.stderr
    loads = re.compile(
        r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^>]*"
        r"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preconnect|icon|preload))"
        r"[^>]*\bhref=[\"']?(?:https?:)?//[^>]*"
    )
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        assert not loads.findall(page.read_text(encoding="utf-8")), page
    for sheet in tmp_path.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)\"']*", text), sheet
