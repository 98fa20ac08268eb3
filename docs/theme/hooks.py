"""What mkdocs cannot do itself: pages from outside docs/, pictures, MathJax, links to sources."""

from __future__ import annotations

import importlib
import json
import re
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import tomllib
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
from api import api_pages

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "build" / "report"
# Pages of the site that live in the root of the repository.
OUTSIDE = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
# What equations need of MathJax: the program, and the fonts that it loads from beside itself.
MATHJAX = ("tex-chtml.js", "output/chtml/fonts/woff-v2")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the pages of the API reference into the navigation."""
    for entry in config.nav or []:
        if isinstance(entry, dict) and "API reference" in entry:
            entry["API reference"] = list(api_pages())
    return config


def source_address() -> str:
    """Where the repository's files can be read, from pyproject.toml; empty if it does not say."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    urls = {name.lower(): url for name, url in project.get("urls", {}).items()}
    address = urls.get("repository") or urls.get("source") or ""
    return f"{address.rstrip('/')}/blob/main" if address else ""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the API reference, the pages from outside, the pictures of measurements and MathJax."""
    for name, text in api_pages().items():
        files.append(File.generated(config, name, content=text))
    for name, source in OUTSIDE.items():
        if (ROOT / source).exists():
            text = (ROOT / source).read_text(encoding="utf-8")
            files.append(File.generated(config, name, content=text.replace("](docs/", "](")))
    for picture in draw_pictures():
        name = f"performance/{picture.relative_to(PICTURES).as_posix()}"
        files.append(File.generated(config, name, abs_src_path=str(picture)))
    mathjax = resources.files("mathjax") / "static" / "mathjax" / "es5"
    for part in MATHJAX:
        path = Path(str(mathjax / part))
        for file in [path] if path.is_file() else sorted(path.iterdir()):
            name = f"theme/mathjax/{file.relative_to(str(mathjax)).as_posix()}"
            files.append(File.generated(config, name, abs_src_path=str(file)))
    return files


def draw_pictures() -> list[Path]:
    """The pictures of all measured machines, by the code of `make report`."""
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks import harness, report
    finally:
        sys.path.remove(str(ROOT))
    machines: dict[str, list[dict[str, Any]]] = {}
    for result in harness.read_newest(harness.RESULTS):
        if result["suite"] in report.PICTURED:
            machines.setdefault(result["machine"], []).append(result)
    for machine, results in machines.items():
        report.draw_all(results, PICTURES / machine)
    return [PICTURES / m / f"{r['suite']}.svg" for m, found in machines.items() for r in found]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files outside docs/ lead to the repository; pages of machines get pictures."""
    folder = Path(page.file.src_uri).parent
    if page.file.src_uri in OUTSIDE:
        folder = Path()

    def link(match: re.Match[str]) -> str:
        text, target = match.groups()
        path, _, _ = target.partition("#")
        if not path or "://" in target or target.startswith("mailto:"):
            return match[0]
        base = ROOT if page.file.src_uri in OUTSIDE else ROOT / "docs"
        inside = (base / folder / path).resolve()
        if inside.is_relative_to(ROOT / "docs") or files.get_file_from_path(
            (folder / path).as_posix()
        ):
            return match[0]
        if not inside.exists() or not inside.is_relative_to(ROOT):
            return match[0]  # mkdocs says that it leads nowhere
        name = inside.relative_to(ROOT).as_posix()
        moved = {source: place for place, source in OUTSIDE.items()}
        if name in moved:
            return f"[{text}]({'../' * len(folder.parts)}{moved[name]})"
        return f"[{text}]({source_address()}/{name})" if source_address() else text

    markdown = LINK.sub(link, markdown)
    if page.file.src_uri.startswith("performance/"):
        markdown = with_pictures(markdown, Path(page.file.src_uri).stem)
    return markdown


def with_pictures(markdown: str, machine: str) -> str:
    """A machine's page with each picture below the heading of what it shows."""
    report_tables = importlib.import_module("benchmarks.report_tables")
    markdown = re.sub(r"^`make report` draws the ratio .*\n", "", markdown, flags=re.M)
    for picture in sorted((PICTURES / machine).glob("*.svg")):
        title, _ = report_tables.HEADS.get(picture.stem, (report_tables.LAYERS[0], ""))
        shown = f"![{title}: a bar for each case]({machine}/{picture.name})"
        markdown = markdown.replace(f"\n## {title}\n", f"\n## {title}\n\n{shown}\n", 1)
    return markdown


@event_priority(-50)  # after the index is written, before it is copied for use without a server
def on_post_build(config: MkDocsConfig) -> None:
    """Takes TeX out of the search index, which shows texts as they are."""
    path = Path(config.site_dir) / "search" / "search_index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    for entry in index["docs"]:
        text = re.sub(r"\\\[.*?\\\]", "", entry["text"], flags=re.S)
        entry["text"] = re.sub(r"\\\((.*?)\\\)", lambda m: plain(m[1]), text, flags=re.S)
    path.write_text(json.dumps(index), encoding="utf-8")


def plain(formula: str) -> str:
    """A formula without its commands and braces."""
    return re.sub(r"\\[a-zA-Z]+ ?|[{}\\]", "", formula).strip()
