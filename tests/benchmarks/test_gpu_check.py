"""benchmarks/gpu_check.sh, everything it calls replaced: order, limits, files, exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Stands for python3 and compute-sanitizer; FAKE_<name> is ok, fail or hang.
PYTHON = """
import json, os, subprocess, sys, time, types
name = os.path.basename(sys.argv[0])
if name == "nvidia-smi":
    query = next(word for word in sys.argv if word.startswith("--query-gpu=")).split("=")[1]
    if os.environ.get("FAKE_GPU") == "none":
        sys.exit(9)
    values = {"name": "NVIDIA H200 (test)", "compute_cap": "9.0", "driver_version": "1.2"}
    print(", ".join(values.get(field, "0 MHz") for field in query.split(",")))
    sys.exit()
if name == "nvcc":
    print("a line")
    print("release 13.0")
    sys.exit()

def act(what, words):
    with open(os.environ["FAKE_CALLS"], "a") as calls:
        calls.write(json.dumps([what, *words]) + chr(10))
    how = os.environ.get("FAKE_" + what.upper(), "ok")
    print("ran", what)
    if how == "hang":
        time.sleep(600)
    return {"ok": 0, "fail": 1}.get(how, how)

if name == "compute-sanitizer":
    tool = sys.argv[sys.argv.index("--tool") + 1]
    status = int(act(tool, sys.argv[1:]))
    command = sys.argv[sys.argv.index(os.environ["PYTHON"]):]
    sys.exit(status or subprocess.run(command).returncode)

cuda = types.SimpleNamespace(
    is_available=lambda: os.environ.get("FAKE_TORCH") != "none",
    get_device_properties=lambda index: types.SimpleNamespace(multi_processor_count=132),
)
version = types.SimpleNamespace(cuda="13.0")
backends = types.SimpleNamespace(cudnn=types.SimpleNamespace(version=lambda: 90000))
sys.modules["torch"] = types.ModuleType("torch")
vars(sys.modules["torch"]).update(cuda=cuda, version=version, backends=backends, __version__="2")
sys.modules["xdist"] = None
for name in ("gensim", "transformers"):
    there = os.environ.get(f"FAKE_{name.upper()}") != "none"
    sys.modules[name] = types.ModuleType(name) if there else None
sys.modules["seqfast"] = types.ModuleType("seqfast")
vars(sys.modules["seqfast"]).update(
    build_info=lambda: {"cuda": os.environ.get("FAKE_BUILT", "on"), "cuda_architectures": ["90"]},
    _C=types.SimpleNamespace(__file__=os.path.join(os.environ["FAKE_PACKAGE"], "_C.so")),
)
kind, *words = sys.argv[1:]
if kind == "-m":
    module, *words = words
    if module == "benchmarks.gpu":
        status = act("bench", words)
        with open(os.path.join(words[words.index("--out") + 1], "rnn_cuda-1.json"), "w") as file:
            file.write("{}")
    elif module == "benchmarks.gpu_beam_search":
        status = act("search", words)
        folder = words[words.index("--out") + 1]
        with open(os.path.join(folder, "beam_search_cuda-1.json"), "w") as file:
            file.write("{}")
    elif module == "benchmarks.gpu_word2vec":
        status = act("vectors", words)
        folder = words[words.index("--out") + 1]
        with open(os.path.join(folder, "word2vec_cuda-1.json"), "w") as file:
            file.write("{}")
    elif module == "benchmarks.gpu_smoke":
        status = act("kernels" if "--here" in words else "smoke", words)
    elif module == "benchmarks.gpu_tests":
        try:
            status = act("test", words)
        except KeyboardInterrupt:
            status = 124
        with open(os.path.join(words[words.index("--out") + 1], "test.xml"), "w") as file:
            file.write("<testsuites/>")
        print("1 passed, 0 failed, 1 skipped")
    elif module == "pytest":
        status = act("reported", words)
    else:
        status = act(module, words)
    sys.exit(status)
code = sys.stdin.read() if kind == "-" else words.pop(0)
sys.argv = [kind, *words]
exec(compile(code, kind, "exec"))
"""


class Check:
    """Runs the script among its stand-ins and keeps what came of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.out = directory / "out"
        self.package = directory / "package" / "results.tgz"
        self.calls_file = directory / "calls"
        (directory / "bin").mkdir()
        for name in ("python3", "nvidia-smi", "nvcc", "compute-sanitizer"):
            path = directory / "bin" / name
            path.write_text(f"#!{sys.executable}\n{PYTHON}")
            path.chmod(0o755)
        (directory / "register_report.txt").write_text("a report\n")

    def environment(self, **fakes: str) -> dict[str, str]:
        self.calls_file.write_text("")
        return {
            **os.environ,
            "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}",
            "PYTHON": str(self.directory / "bin" / "python3"),
            "FAKE_CALLS": str(self.calls_file),
            "FAKE_PACKAGE": str(self.directory),
            "SEQFAST_COMMIT": "abc123",
            **fakes,
        }

    def command(self, *options: str) -> list[str]:
        script = str(ROOT / "benchmarks" / "gpu_check.sh")
        return [
            script, "--work", str(self.out), "--out", str(self.package.parent), *options,
        ]  # fmt: skip

    def run(self, *options: str, **fakes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*options), env=self.environment(**fakes), cwd=self.directory,
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    def packed(self, name: str) -> str:
        """A file of the package, "" where there is none."""
        try:
            with tarfile.open(self.package) as package:
                file = package.extractfile(f"./{name}")
                return file.read().decode() if file else ""
        except (FileNotFoundError, KeyError):
            return ""

    @property
    def calls(self) -> dict[str, list[str]]:
        lines = map(json.loads, self.calls_file.read_text().splitlines())
        return {name: words for name, *words in lines}

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        summary = json.loads((self.out / "summary.json").read_text())
        return {stage["stage"]: stage for stage in summary["stages"]}

    @property
    def states(self) -> dict[str, str]:
        return {name: stage["state"] for name, stage in self.stages.items()}


@pytest.fixture
def check(tmp_path: Path) -> Check:
    return Check(tmp_path)


def test_everything_passes(check: Check) -> None:
    done = check.run()
    assert done.returncode == 0, done.stdout + done.stderr
    names = ("build", "smoke", "test", "sanitize", "bench", "search", "vectors")
    assert check.states == dict.fromkeys(names, "passed")
    calls = [
        "pip", "reported", "smoke", "test", "memcheck", "kernels", "synccheck", "racecheck",
        "bench", "search", "vectors",
    ]  # fmt: skip
    assert list(check.calls) == calls
    files = {path.name for path in check.out.iterdir()}
    assert files == {
        "environment.json", "summary.json", "register_report.txt", "test.xml", "rnn_cuda-1.json",
        "smoke.log",
        "word2vec_cuda-1.json", "build.log", "test.log", "sanitize.log", "bench.log", "vectors.log",
        "beam_search_cuda-1.json", "search.log",
    }  # fmt: skip

    with tarfile.open(check.package) as package:
        packed = {name.removeprefix("./") for name in package.getnames()} - {"."}
    assert packed == files
    assert [path.name for path in check.package.parent.iterdir()] == ["results.tgz"]

    environment = json.loads((check.out / "environment.json").read_text())
    assert environment["commit"] == "abc123"
    assert environment["nvcc"] == "release 13.0"
    assert environment["gpus"][0]["name"] == "NVIDIA H200 (test)"
    assert environment["gpus"][0]["clocks.sm"] == "0 MHz"

    pip = check.calls["pip"]
    assert {"--no-index", "--no-build-isolation", "--no-deps", "--editable"} <= set(pip)
    assert "--config-settings=cmake.define.SEQFAST_CUDA=ON" in pip
    assert "--config-settings=cmake.define.CMAKE_CUDA_ARCHITECTURES=90" in pip
    assert "--config-settings=cmake.define.SEQFAST_CUDA_WATCHDOG=OFF" in pip
    for tool in ("memcheck", "synccheck", "racecheck"):
        assert "--error-exitcode 86 " in " ".join(check.calls[tool])
    # All of it, the measuring too, ends within nine minutes.
    seconds = int(check.calls["bench"][check.calls["bench"].index("--seconds") + 1])
    assert 380 <= seconds < 490
    words = check.calls["vectors"]
    assert 420 <= int(words[words.index("--seconds") + 1]) < 530
    assert check.stages["vectors"]["note"] == check.stages["search"]["note"] == ""
    words = check.calls["search"]
    assert 400 <= int(words[words.index("--seconds") + 1]) < 530
    assert check.stages["test"]["note"] == "1 passed, 0 failed, 1 skipped"
    assert check.stages["sanitize"]["note"] == "memcheck clean; synccheck clean; racecheck clean"


@pytest.mark.parametrize(
    ("fakes", "failed"),
    [
        ({"FAKE_PIP": "fail"}, {"build"}),
        ({"FAKE_BUILT": "off"}, {"build"}),
        ({"FAKE_TEST": "fail"}, {"test"}),
        ({"FAKE_REPORTED": "fail"}, {"build"}),
        ({"FAKE_SMOKE": "fail"}, {"smoke"}),
        ({"FAKE_KERNELS": "fail"}, {"sanitize"}),
        ({"FAKE_MEMCHECK": "86"}, {"sanitize"}),
        ({"FAKE_BENCH": "fail"}, {"bench"}),
        ({"FAKE_VECTORS": "fail"}, {"vectors"}),
        ({"FAKE_SEARCH": "fail"}, {"search"}),
    ],
)
def test_a_failing_stage_stops_no_other(
    check: Check, fakes: dict[str, str], failed: set[str]
) -> None:
    done = check.run(**fakes)
    assert done.returncode == 1
    assert {name for name, state in check.states.items() if state != "passed"} == failed
    assert all(check.states[name] == "failed" for name in failed)
    assert "bench" in check.calls
    if "FAKE_MEMCHECK" in fakes:
        assert (
            check.stages["sanitize"]["note"]
            == "memcheck found errors; synccheck clean; racecheck clean"
        )


@pytest.mark.alone
def test_a_stage_that_hangs_is_cut_and_leaves_what_it_has(check: Check) -> None:
    done = check.run("--stages", "test", "--seconds", "25", FAKE_TEST="hang")
    assert done.returncode == 1
    assert check.states == {"test": "cut"}
    assert check.stages["test"]["seconds"] <= 20
    assert check.stages["test"]["note"] == "1 passed, 0 failed, 1 skipped"
    assert "ran test" in (check.out / "test.log").read_text()


@pytest.mark.alone
def test_what_there_is_is_packed_while_it_runs(check: Check) -> None:
    words = ["--stages", "smoke,test", "--seconds", "100", "--every", "1"]
    with subprocess.Popen(
        check.command(*words), env=check.environment(FAKE_TEST="hang"), cwd=check.directory,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            end = time.monotonic() + 60
            while "ran test" not in check.packed("test.log"):
                assert time.monotonic() < end
                time.sleep(0.2)
        finally:  # as a machine goes that is taken away: nothing of it can do a last thing
            os.killpg(process.pid, signal.SIGKILL)
    assert "ran smoke" in check.packed("smoke.log")
    assert json.loads(check.packed("summary.json"))["stages"][0]["state"] == "passed"


def test_a_long_log_leaves_room_for_the_others(check: Check) -> None:
    check.out.mkdir()
    (check.out / "old.log").write_text("a" * 5_000_000 + "the end")
    assert check.run("--stages", "smoke").returncode == 0
    assert len(check.packed("old.log")) == 4_000_000
    assert check.packed("old.log").endswith("the end")


def test_cases_and_a_watchdog(check: Check) -> None:
    words = ["--stages", "build,smoke,bench", "--smoke", "^gru", "--cases", "768", "--watchdog"]
    assert check.run(*words).returncode == 0
    calls = check.calls
    assert calls["smoke"][calls["smoke"].index("--cases") + 1] == "^gru"
    assert calls["bench"][calls["bench"].index("--cases") + 1] == "768"
    assert "--config-settings=cmake.define.SEQFAST_CUDA_WATCHDOG=ON" in calls["pip"]


def test_no_time_is_no_pass(check: Check) -> None:
    done = check.run("--stages", "bench,test", "--seconds", "15")
    assert done.returncode == 1
    assert check.states == {"bench": "no time", "test": "no time"}
    assert check.calls == {}


def test_beam_search_without_transformers(check: Check) -> None:
    assert check.run("--stages", "search", FAKE_TRANSFORMERS="none").returncode == 0
    assert check.stages["search"]["note"] == "without transformers"


def test_word_vectors_without_gensim(check: Check) -> None:
    assert check.run("--stages", "vectors", FAKE_GENSIM="none").returncode == 0
    assert check.stages["vectors"]["note"] == "without gensim"


def test_stages_can_be_chosen(check: Check) -> None:
    assert check.run("--stages", "bench").returncode == 0
    assert check.states == {"bench": "passed"}
    assert list(check.calls) == ["bench"]


def test_quality_runs_if_it_is_named(check: Check) -> None:
    assert check.run("--stages", "quality").returncode == 0
    (words,) = check.calls.values()
    assert words[words.index("--device") + 1] == "cuda"
    assert check.states == {"quality": "passed"}
    assert (check.out / "quality.log").is_file()


@pytest.mark.parametrize(
    ("fakes", "reason"),
    [({"FAKE_GPU": "none"}, "nvidia-smi names none"), ({"FAKE_TORCH": "none"}, "its torch")],
)
def test_no_gpu(check: Check, fakes: dict[str, str], reason: str) -> None:
    done = check.run(**fakes)
    assert done.returncode == 3
    assert "gpu_check: no GPU" in done.stderr
    assert reason in done.stderr
    assert check.calls == {}
    assert not check.out.exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            ["--stages", "build,dance"],
            "got 'dance', wanted some of build,smoke,test,sanitize,bench,search,vectors",
        ),
        (["--seconds", "soon"], "--seconds must be a whole number, got soon"),
        (["--stages"], "--stages wants a value"),
        (["--fast"], "--fast is no option"),
    ],
)
def test_wrong_use(check: Check, options: list[str], reason: str) -> None:
    done = check.run(*options)
    assert done.returncode == 2
    assert reason in done.stderr
