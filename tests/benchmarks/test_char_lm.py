"""The demo at toy size: it agrees with torch, says so, and names what is wrong with a file."""

from __future__ import annotations

import importlib.util
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")
pytestmark = pytest.mark.usefixtures("one_thread")

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "char_lm.py"
TOY = ["--hidden", "16", "--batch", "4", "--bptt", "10", "--min-count", "2", "--sample", "20"]


@pytest.fixture(scope="module")
def char_lm() -> ModuleType:
    spec = importlib.util.spec_from_file_location("char_lm", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def text(tmp_path: Path) -> Path:
    generator = random.Random(0)
    words = ("def", "return", "self", "é", "x = 1\n")
    path = tmp_path / "text.txt"
    path.write_text(" ".join(generator.choices(words, k=1000)), encoding="utf-8")
    return path


def test_runs_and_agrees(text: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(PROGRAM), "--text", str(text), "--steps", "60", *TOY]
    command += ["--out", str(tmp_path / "new" / "folder")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    picture = (tmp_path / "new" / "folder" / "char_lm.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    for name in ("torch.nn.LSTM", "seqfast.nn.LSTM"):
        assert re.search(rf"{name} +[\d,]+ characters/s, validation \d\.\d+ bits", done.stdout)
    first, curve = re.findall(r"difference.*: +(\S+), allowed", done.stdout)
    assert float(first) <= 1e-4
    assert float(curve) <= 1e-2
    assert "--- sample ---\ndef " in done.stdout


@pytest.mark.parametrize("steps", [1, 50])
def test_the_picture_shows_curves(
    steps: int, char_lm: ModuleType, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.axes import Axes

    drawn: list[tuple[int, str]] = []
    plot = Axes.plot

    def seen(axes: Axes, x, y, **options):
        drawn.append((len(y), options["marker"]))
        return plot(axes, x, y, **options)

    monkeypatch.setattr(Axes, "plot", seen)
    arguments = ["--text", str(text), "--steps", str(steps), *TOY, "--out", str(tmp_path)]
    assert char_lm.main(arguments) == 0
    assert len(drawn) == 2
    # Points that a line joins, or marks that can be seen one by one.
    assert all(count >= 20 or (count > 0 and marker) for count, marker in drawn)


def test_seconds_end_the_training(
    char_lm: ModuleType, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--text", str(text), "--steps", "1000000", "--seconds", "0.5", *TOY]
    assert char_lm.main([*arguments, "--out", str(tmp_path)]) == 0
    assert "speed, seqfast / torch" in capsys.readouterr().out


@pytest.mark.alone
def test_interrupt_ends_training_early(text: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(PROGRAM), "--text", str(text), "--steps", "1000000", *TOY]
    with subprocess.Popen(
        [*command, "--out", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        progress = b""
        while b"bits per character" not in progress and (part := process.stderr.read1()):
            progress += part
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, progress + errors
    assert b"bits per character" in output
    assert (tmp_path / "char_lm.png").exists()


@pytest.mark.parametrize("factor", [1.1, float("nan")])
def test_disagreement_is_an_error(
    factor: float,
    char_lm: ModuleType,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Wrong(torch.nn.LSTM):
        def forward(self, input, hx=None):
            output, state = super().forward(input, hx)
            return output * (factor if self.training else 1.0), state

    monkeypatch.setitem(char_lm.LAYERS, "seqfast.nn.LSTM", Wrong)
    arguments = ["--text", str(text), "--steps", "60", *TOY, "--out", str(tmp_path)]
    assert char_lm.main(arguments) == 1
    assert "disagree" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read .*No such file"),
        (b"\xff\xfe\x00", "is not UTF-8 text: invalid start byte at byte 0"),
        (b"too short", "need 44 characters to train on and 8 held out, got 9 and 0"),
        (b"", "got 0 and 0"),
    ],
)
def test_bad_text(content: bytes | None, message: str, char_lm: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit, match=message):
        char_lm.main(["--text", str(path), *TOY])


@pytest.mark.parametrize("option", ["--steps", "--seconds", "--hidden", "--temperature"])
def test_bad_option(option: str, char_lm: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        char_lm.main([option, "0"])
    assert f"{option} must be positive, got 0" in capsys.readouterr().err


def test_library_text_is_the_same_each_time(char_lm: ModuleType) -> None:
    text, held_out = char_lm.read_text(None)
    assert (text, held_out) == char_lm.read_text(None)
    assert len(text) > 5 * len(held_out) > 100_000


def test_state_is_carried_between_pieces(char_lm: ModuleType) -> None:
    torch.manual_seed(0)
    for layer in char_lm.LAYERS.values():
        model = char_lm.CharLM(layer, 20, 16)
        data = torch.randint(20, (41, 3))
        whole = char_lm.bits_per_character(model, data, 40)
        assert char_lm.bits_per_character(model, data, 7) == pytest.approx(whole, rel=1e-5)


def test_smooth_is_a_mean_over_the_window(char_lm: ModuleType) -> None:
    assert char_lm.smooth([1.0, 2.0, 6.0, 1.0], 3).tolist() == [3.0, 3.0]
