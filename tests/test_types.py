"""What type checkers say of small programs of users: right ones pass, wrong ones do not."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch, for seqfast.nn")

ROOT = Path(__file__).resolve().parents[1]

RIGHT = {
    "a layer": """
        import torch, seqfast
        lstm = seqfast.nn.LSTM(4, 8, num_layers=2, peephole=True)
        output, (h, c) = lstm(torch.zeros(7, 3, 4), lengths=[7, 2, 5])
        same: torch.nn.LSTM = lstm
        total: torch.Tensor = output + h + c
        more, states, cells = lstm(torch.zeros(7, 3, 4), return_cells=True)
        of_cells: torch.Tensor = cells
    """,
    "a cell": """
        import torch
        from seqfast.nn import GRUCell, LSTMCell
        h: torch.Tensor = GRUCell(4, 8)(torch.zeros(3, 4))
        h, c = LSTMCell(4, 8)(torch.zeros(3, 4), (h, h))
    """,
    "packed": """
        import torch, seqfast
        from torch.nn.utils.rnn import PackedSequence
        def run(layer: seqfast.nn.GRU, x: PackedSequence) -> torch.Tensor:
            output, h = layer(x)
            return output.data + h
    """,
    "accelerate": """
        import torch, seqfast
        class Model(torch.nn.Module):
            def own(self) -> int:
                return 1
        number: int = seqfast.accelerate(Model()).own()
        model, report = seqfast.restore(Model(), return_report=True)
        reasons: list[str] = list(report.left.values())
    """,
    "names at the top": """
        import seqfast
        from seqfast.decoding import BeamSearch
        from seqfast.embeddings import Word2Vec
        kinds: tuple[type[BeamSearch], type[Word2Vec]] = (seqfast.BeamSearch, seqfast.Word2Vec)
    """,
}
# With what the message must have.
WRONG = {
    "option": ("import seqfast; seqfast.nn.LSTM(4, 8, droput=1)", "droput"),
    "size": ("import seqfast; seqfast.nn.GRU('4', 8)", '"?str"?|Literal'),
    "name": ("import seqfast; seqfast.nn.Linear(4, 8)", "Linear"),
    "top": ("import seqfast; seqfast.BeamSerch", "BeamSerch"),
    "result": (
        "import torch, seqfast; x: int = seqfast.nn.GRU(4, 8)(torch.zeros(7, 3, 4))",
        "int",
    ),
    "states": (
        "import torch, seqfast; seqfast.nn.LSTM(4, 8)(torch.zeros(7, 3, 4), hs=1)",
        "hs|No overload",
    ),
    "cell": (
        "import torch, seqfast; seqfast.nn.GRUCell(4, 8)(torch.zeros(3, 4), lengths=[1])",
        "lengths",
    ),
    "decoding": ("from seqfast.decoding import Beams", "Beams"),
    "embeddings": ("from seqfast.embeddings import Word3Vec", "Word3Vec"),
    "report": (
        "import torch, seqfast; a, b = seqfast.accelerate(torch.nn.LSTM(4, 8))",
        "LSTM",
    ),
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    for name, text in RIGHT.items():
        lines = text.replace("\n        ", "\n").lstrip("\n")
        (folder / f"right_{name.replace(' ', '_')}.py").write_text(lines)
    for name, (text, _) in WRONG.items():
        (folder / f"wrong_{name}.py").write_text(text.replace("; ", "\n") + "\n")
    return folder


def check(found: dict[str, str]) -> None:
    """`found`: what was said of each file."""
    right = {name: text for name, text in found.items() if name.startswith("right_")}
    assert right == {}
    for name, (_, words) in WRONG.items():
        assert re.search(words, found.get(f"wrong_{name}.py", "")), (name, found)


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_mypy(programs: Path) -> None:
    """With the project's own cache, without which this takes most of a minute."""
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("needs mypy")
    files = [str(path) for path in sorted(programs.glob("*.py"))]
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--no-color-output", *files]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    found: dict[str, str] = {}
    for line in said.splitlines():
        place = re.match(r"(.*?\.py):\d+: error: (.*)", line)
        if place:
            name = Path(place[1]).name
            found[name] = found.get(name, "") + place[2]
    check(found)


@pytest.mark.alone
def test_pyright(programs: Path) -> None:
    if importlib.util.find_spec("pyright") is None or shutil.which("node") is None:
        pytest.skip("needs pyright, and node for it")
    (programs / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT)]}))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    said = subprocess.run(command, cwd=programs, capture_output=True, text=True)
    if not said.stdout.lstrip().startswith("{"):
        pytest.skip(f"needs a pyright that runs here: {said.stderr.strip()[-200:]}")
    found: dict[str, str] = {}
    for each in json.loads(said.stdout)["generalDiagnostics"]:
        if each["severity"] == "error":
            name = Path(each["file"]).name
            found[name] = found.get(name, "") + each["message"]
    check(found)
