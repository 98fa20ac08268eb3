#!/usr/bin/env bash
# Builds, tests, sanitizes and measures seqfast on a machine with one GPU and no network, within nine minutes.
#
#   benchmarks/gpu_check.sh [--stages build,smoke,test,sanitize,bench,search,vectors] [--out DIR]
#       [--seconds N] [--smoke REGEX] [--cases REGEX] [--watchdog] [--work DIR] [--every N]
#
# It needs nvcc, and a python3 (or $PYTHON) with torch, pytest, CMake, ninja, pybind11 and scikit-build-core.
# A further stage, quality, runs only if it is named: it trains gensim's models too, and takes long on few cores.
# The build goes into that Python, editable, with nothing fetched. Each stage leaves its results in the
# folder of --work (build/gpu_check/results) when it ends, and what it has when its time is over; none stops
# the next. All of it is packed into DIR/results.tgz (DIR: build/gpu_check), every N seconds (20) and at the end.
# --smoke and --cases choose cases of the stages smoke and bench; --watchdog builds kernels that say where
# they hang. docs/develop/first_gpu_run.md has the calls of a first run.
# Exit status: 0 all passed; 1 a stage failed, was cut or had no time; 2 wrong use; 3 no GPU.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

readonly STAGES=(build smoke test sanitize bench search vectors) # those of a run that names none
# Seconds kept for each stage while those before it run; what they leave goes to the next ones.
declare -Ar SHARE=([build]=150 [smoke]=90 [test]=80 [sanitize]=60 [bench]=75 [search]=30 [vectors]=40 [quality]=400)
# Seconds between a stage's interrupt and its end by force, and those kept for the last summary.
readonly GRACE=10 RESERVE=10
# Of a file in the package, so that one log does not take it all.
readonly MOST_BYTES=4000000

say() { printf '%s\n' "gpu_check: $*"; }
refuse() {
    printf 'gpu_check: %s\n' "$2" >&2
    exit "$1"
}
usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "benchmarks/gpu_check.sh"; }

selected=("${STAGES[@]}")
out=build/gpu_check
work=build/gpu_check/results
total=540
every=20
smoke=
cases=
watchdog=OFF
while (($#)); do
    case $1 in
        --watchdog)
            watchdog=ON
            shift
            ;;
        --stages | --out | --work | --seconds | --every | --smoke | --cases)
            (($# > 1)) || refuse 2 "$1 wants a value"
            case $1 in
                --stages) IFS=, read -ra selected <<<"$2" ;;
                --out) out=$2 ;;
                --work) work=$2 ;;
                --seconds) total=$2 ;;
                --every) every=$2 ;;
                --smoke) smoke=$2 ;;
                --cases) cases=$2 ;;
            esac
            shift 2
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) refuse 2 "$1 is no option; see --help" ;;
    esac
done
[[ $total =~ ^[1-9][0-9]*$ ]] || refuse 2 "--seconds must be a whole number, got $total"
[[ $every =~ ^[1-9][0-9]*$ ]] || refuse 2 "--every must be a whole number, got $every"
for stage in ${selected[@]+"${selected[@]}"}; do
    [[ -n $stage && -n ${SHARE[$stage]-} ]] ||
        refuse 2 "--stages: got '$stage', wanted some of $(IFS=,; echo "${STAGES[*]}"),quality"
done
((${#selected[@]})) || refuse 2 "--stages names no stage"

python=${PYTHON:-python3}
python=$(command -v "$python") || refuse 2 "${PYTHON:-python3} is not there; PYTHON names another one"
# The tools that stand beside this Python (cmake, ninja) are the ones meant.
PATH=$(dirname "$python"):$PATH
export PATH PYTHONUNBUFFERED=1

smi() { nvidia-smi --query-gpu="$1" --format=csv,noheader 2>/dev/null | head -n 1; }
gpu=$(smi name)
[[ -n $gpu ]] || refuse 3 "no GPU here: nvidia-smi names none"
"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
    refuse 3 "no GPU for $python: its torch is missing or sees none ($gpu is there)"

mkdir -p "$out" "$work" || refuse 2 "--out, --work: cannot make $out and $work"
out=$(cd "$out" && pwd) || refuse 2 "--out: cannot enter $out"
work=$(cd "$work" && pwd) || refuse 2 "--work: cannot enter $work"
rm -f "$work"/{environment,summary,smoke}.json "$work"/{build,smoke,test,sanitize,bench,search,vectors,quality}.log
rm -f "$work"/test.{xml,jsonl} "$out"/results.tgz

# The end of every file in one archive, which is whole at any moment: the run may be cut at any other.
pack() {
    local folder=$work/.packing file
    rm -rf "$folder" && mkdir "$folder" || return
    for file in "$work"/*; do
        [[ -f $file ]] && tail -c "$MOST_BYTES" "$file" >"$folder/${file##*/}"
    done
    tar -C "$folder" -czf "$out/.results.tgz" . && mv -f "$out/.results.tgz" "$out/results.tgz"
    rm -rf "$folder"
}
pack_again_and_again() {
    local pause=
    # A sleep that is left behind keeps the output open, and whoever reads it waits.
    trap 'kill $pause 2>/dev/null; exit' TERM
    while true; do
        sleep "$every" &
        pause=$!
        wait "$pause" # unlike sleep itself it ends when it is told to
        pack
    done
}
finish() {
    kill "$packer" 2>/dev/null
    wait "$packer" 2>/dev/null
    pack
}
pack_again_and_again &
packer=$!
trap finish EXIT
trap 'exit 130' INT TERM

left() { echo $((total - RESERVE - SECONDS)); }
# within SECONDS COMMAND...: interrupted when they are nearly over, so that it writes what it has.
within() {
    local limit=$1
    shift
    ((limit > GRACE)) || return 124
    timeout --signal=INT --kill-after="$GRACE" "$((limit - GRACE))" "$@"
}

write_environment() {
    "$python" - "$work/environment.json" <<'PYTHON'
import datetime
import json
import os
import platform
import subprocess
import sys

import torch


def said(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


fields = ["name", "driver_version", "compute_cap", "memory.total", "clocks.sm", "clocks.mem"]
fields += ["clocks.max.sm", "clocks.max.mem", "power.limit", "temperature.gpu", "persistence_mode"]
gpus = said("nvidia-smi", "--query-gpu=" + ",".join(fields), "--format=csv,noheader") or ""
properties = torch.cuda.get_device_properties(0)
facts = {
    "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    "commit": os.environ.get("SEQFAST_COMMIT")
    or said("git", "describe", "--always", "--dirty", "--abbrev=10", "--match=")
    or "unknown",
    "gpus": [
        dict(zip(fields, map(str.strip, line.split(",")), strict=False))
        for line in gpus.splitlines()
    ],
    "multiprocessors": properties.multi_processor_count,
    "torch": torch.__version__,
    "torch_cuda": torch.version.cuda,
    "cudnn": torch.backends.cudnn.version(),
    "nvcc": (said("nvcc", "--version") or "unknown").splitlines()[-1],
    "compiler": (said("c++", "--version") or "unknown").splitlines()[0],
    "python": platform.python_version(),
    "system": platform.platform(),
    "cores": len(os.sched_getaffinity(0)),
}
with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump(facts, file, indent=1)
    file.write("\n")
print(f"{facts['gpus'][0]['name']}, driver {facts['gpus'][0]['driver_version']},", end=" ")
print(f"CUDA {facts['torch_cuda']}, torch {facts['torch']}, commit {facts['commit']}")
PYTHON
}

# Each stage gets its seconds, prints into its log, and may leave a line in `note`.

stage_build() {
    local architecture
    architecture=$(smi compute_cap | tr -d '. ')
    # Only for this GPU: what the others would get is the same source, and time is short.
    PIP_BREAK_SYSTEM_PACKAGES=1 within "$1" "$python" -m pip install --verbose --no-index \
        --no-build-isolation --no-deps --disable-pip-version-check --root-user-action=ignore \
        --editable . \
        --config-settings=build-dir=build/gpu_check \
        --config-settings=cmake.define.SEQFAST_CUDA=ON \
        --config-settings=cmake.define.SEQFAST_CUDA_WATCHDOG="$watchdog" \
        --config-settings=cmake.define.CMAKE_CUDA_ARCHITECTURES="$architecture" || return
    note=$("$python" -c '
import pathlib, shutil, sys
import seqfast
info = seqfast.build_info()
if info["cuda"] != "on":
    sys.exit(f"built without CUDA: {info}")
report = pathlib.Path(seqfast._C.__file__).with_name("register_report.txt")
shutil.copy(report, sys.argv[1])
print("architectures:", *info["cuda_architectures"])' "$work") || return
    within "$(($1 - SECONDS + started))" "$python" -m pytest -W default -p no:cacheprovider \
        tests/test_cuda_build.py -k "reported or registers or runtime"
}

# Each case in a process of its own: what hangs is named, and the rest goes on.
stage_smoke() {
    within "$1" "$python" -m benchmarks.gpu_smoke --out "$work/smoke.json" --cases "$smoke" \
        --total "$(($1 > 4 * GRACE ? $1 - 4 * GRACE : GRACE))" || return
}

stage_test() {
    local status=0
    # It cuts itself a little before, with all that it has.
    within "$1" "$python" -m benchmarks.gpu_tests --out "$work" \
        --seconds "$(($1 > 4 * GRACE ? $1 - 3 * GRACE : GRACE))" || status=$?
    note=$(tail -n 1 "$work/test.log")
    return "$status"
}

stage_sanitize() {
    local each=$(($1 / 3)) tool status worst=0 of
    if ! command -v compute-sanitizer >/dev/null; then
        note="compute-sanitizer is not there"
        return 1
    fi
    for tool in memcheck synccheck racecheck; do
        status=0
        of=$smoke
        # In a cluster no barrier stands between a store and its poll, which racecheck takes for a race.
        [[ $tool == racecheck ]] && of="grid|stepwise"
        # Without torch's cache an array ends where its memory ends.
        PYTORCH_NO_CUDA_MEMORY_CACHING=1 within "$each" compute-sanitizer --tool "$tool" \
            --target-processes all --kernel-name kns=seqfast --error-exitcode 86 \
            "$python" -m benchmarks.gpu_smoke --here --cases "$of" \
            --total "$((each > 4 * GRACE ? each - 3 * GRACE : GRACE))" || status=$?
        ((status == 137)) && status=124
        case $status in
            0) note+="$tool clean; " ;;
            86) note+="$tool found errors; " ;;
            124) note+="$tool cut; " ;;
            *) note+="$tool: exit status $status; " ;;
        esac
        # Errors count for more than a lack of time.
        if ((worst == 0 || (worst == 124 && status != 0))); then worst=$status; fi
    done
    note=${note%; }
    return "$worst"
}

stage_bench() {
    local before after
    before=$(smi clocks.sm)
    # It ends by itself, after the case that it is in.
    within "$1" "$python" -m benchmarks.gpu --out "$work" --cases "$cases" \
        --seconds "$(($1 > 4 * GRACE ? $1 - 3 * GRACE : GRACE))"
    local status=$?
    after=$(smi clocks.sm)
    note="SM clock before $before, after $after"
    return "$status"
}

# Beam search; without transformers on this machine, against torch alone.
stage_search() {
    within "$1" "$python" -m benchmarks.gpu_beam_search --out "$work" \
        --seconds "$(($1 > 4 * GRACE ? $1 - 3 * GRACE : GRACE))" || return
    "$python" -c 'import transformers' 2>/dev/null || note="without transformers"
}

# Word vectors; without gensim on this machine, our own rates alone.
stage_vectors() {
    within "$1" "$python" -m benchmarks.gpu_word2vec --out "$work" \
        --seconds "$(($1 > 4 * GRACE ? $1 - 3 * GRACE : GRACE))" || return
    "$python" -c 'import gensim' 2>/dev/null || note="without gensim"
}

# How good the vectors of the GPU are, beside gensim's on all cores; finished models stay for another run.
stage_quality() {
    within "$1" "$python" -m benchmarks.word2vec_quality --device cuda --workers "$(nproc)" \
        --sides gensim,seqfast,deterministic --results "$work" || return
    find "$work" -mindepth 2 -name 'word2vec_quality-*.json' -exec mv {} "$work" ';'
}

rows=()
write_summary() {
    "$python" - "$work/summary.json" "$SECONDS" ${rows[@]+"${rows[@]}"} <<'PYTHON'
import json
import sys

path, seconds, *rows = sys.argv[1:]
names = ("stage", "state", "seconds", "limit", "note")
stages = [dict(zip(names, row.split("\t"), strict=True)) for row in rows]
for stage in stages:
    stage.update({name: int(stage[name]) for name in ("seconds", "limit")})
with open(path, "w", encoding="utf-8") as file:
    json.dump({"seconds": int(seconds), "stages": stages}, file, indent=1)
    file.write("\n")
PYTHON
}

run_stage() {
    local stage=$1 limit state status=0 other reserved=0 seen=
    started=$SECONDS
    note=
    for other in "${selected[@]}"; do
        [[ -n $seen ]] && reserved=$((reserved + SHARE[$other]))
        [[ $other == "$stage" ]] && seen=1
    done
    # Short of time, each gets its part of what is left.
    limit=$(($(left) - reserved))
    if ((limit < SHARE[$stage])); then
        limit=$(($(left) * SHARE[$stage] / (SHARE[$stage] + reserved)))
    fi
    if ((limit <= GRACE)); then
        status=1
        state="no time"
    else
        say "$stage, at most $limit s"
        "stage_$stage" "$limit" >"$work/$stage.log" 2>&1 || status=$?
        case $status in
            0) state=passed ;;
            124 | 137) state=cut ;;
            *) state=failed ;;
        esac
        tail -n 25 "$work/$stage.log"
    fi
    note=${note//[$'\t\n']/ }
    rows+=("$stage"$'\t'"$state"$'\t'"$((SECONDS - started))"$'\t'"$limit"$'\t'"$note")
    say "$stage $state after $((SECONDS - started)) s${note:+: $note}"
    write_summary
    return "$status"
}

failed=0
write_environment || failed=1
for stage in "${selected[@]}"; do
    run_stage "$stage" || failed=1
done
say "results are in $work, packed in $out/results.tgz"
column -t -s $'\t' <<<"$(printf '%s\n' "${rows[@]}")" 2>/dev/null || printf '%s\n' "${rows[@]}"
exit "$failed"
