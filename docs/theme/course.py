"""A page for each lesson: its text, picture, what it printed, its source.

python docs/theme/course.py [--data FOLDER] [LESSON ...]   runs lessons, all by default, and records
what they print in docs/course/ and their pictures in build/course/; with a folder of data sets also
on real data, wherever it holds the file that a lesson learns from.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    from mkdocs.plugins import event_priority
except ImportError:  # to run lessons mkdocs is not needed

    def event_priority(priority: float) -> Callable[[Any], Any]:
        return lambda function: function


ROOT = Path(__file__).resolve().parents[2]
EXAMPLES, RECORDS, PICTURES = ROOT / "examples", ROOT / "docs" / "course", ROOT / "build" / "course"
SHARED = ("common",)  # no lesson
TITLES = {"awd_lstm": "AWD-LSTM", "bleu": "BLEU", "debias": "Debiasing", "glove": "GloVe"}
# Lesson -> what it takes of real data, by the name of a file or folder, and further arguments.
DATA = {
    "language_models": [("wikitext-2/train.txt.xz", "--words 300000 --hidden 256")],
    "sentiment": [
        ("sentence_polarity.zip", ""),
        ("sentence_polarity.zip", "--vectors {folder}/movie_reviews.zip"),
    ],
    "tagging": [("wnut17", "--epochs 12"), ("snips", "--epochs 4")],
    "translate": [("fra.txt.xz", "")],
    "speech": [("recordings.tar.xz", "")],
    "speech_autoencoder": [("recordings.tar.xz", "--epochs 40")],
}


def lessons() -> list[str]:
    return sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem not in SHARED)


def title_of(name: str) -> str:
    return TITLES.get(name, name.replace("_", " ").capitalize())


def page(name: str) -> str:
    """The lesson as markdown."""
    source = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    parts = [f"# {title_of(name)}", ast.get_docstring(ast.parse(source)) or ""]
    parts.append(f"From a clone: `python examples/{name}.py`; `--help` lists its options.")
    if (PICTURES / f"{name}.png").exists():
        parts.append(f"![{title_of(name)}]({name}.png)")
    record = RECORDS / f"{name}.txt"
    if record.exists():
        parts += ["## What it prints", f"```text\n{record.read_text(encoding='utf-8')}```"]
    parts += ["## Source", f"```python\n{source}```"]
    return "\n\n".join(parts) + "\n"


def on_config(config: Any) -> Any:
    for entry in config.nav or []:
        if isinstance(entry, dict) and "Course" in entry:
            entry["Course"] = ["course.md", *({title_of(n): f"course/{n}.md"} for n in lessons())]
    return config


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    for name in lessons():
        files.append(File.generated(config, f"course/{name}.md", content=page(name)))
        picture = PICTURES / f"{name}.png"
        if picture.exists():
            files.append(File.generated(config, f"course/{name}.png", abs_src_path=str(picture)))
    return files


# Before the hook that leads links outside docs/ to the repository.
@event_priority(50)
def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """On the site a lesson is a page; elsewhere its source."""
    if page.file.src_uri != "course.md":
        return markdown
    return re.sub(r"\]\(\.\./examples/(\w+)\.py\)", r"](course/\1.md)", markdown)


def run(name: str, words: list[str], shown: str) -> str:
    """What a lesson prints, below the command that a reader would type."""
    begin = time.perf_counter()
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *words, "--out", str(PICTURES)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{name}: {done.stderr}")
    print(f"{name} {shown}: {time.perf_counter() - begin:.0f} s", flush=True)
    printed = done.stdout.replace(str(PICTURES), "examples/output")
    return f"$ python examples/{name}.py{shown and ' ' + shown}\n{printed}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("lessons", nargs="*")
    parser.add_argument("--data", type=Path, help="folder in which data sets are looked for")
    args = parser.parse_args()
    RECORDS.mkdir(exist_ok=True)
    for name in args.lessons or lessons():
        texts = []
        for wanted, more in DATA.get(name, []) if args.data else []:
            for path in sorted(args.data.rglob(f"*{Path(wanted).name}")):
                if path.as_posix().endswith(wanted):
                    words = ["--data", str(path), *more.format(folder=path.parent).split()]
                    shown = f"--data {path.name} {more.replace('{folder}/', '')}".strip()
                    texts.append(run(name, words, shown))
        # Last, so that the picture is of the run that every reader can repeat.
        texts.insert(0, run(name, [], ""))
        (RECORDS / f"{name}.txt").write_text("\n".join(texts), encoding="utf-8")


if __name__ == "__main__":
    main()
