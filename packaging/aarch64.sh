#!/usr/bin/env bash
# Compiles seqfast for aarch64 on another machine, and tries it there under emulation.
#
#     packaging/aarch64.sh FOLDER
#
# On Debian, with its packages g++-aarch64-linux-gnu, qemu-user, debootstrap and python3. FOLDER gets
# an arm64 Debian of the same release, unpacked and not installed, a NumPy from PyPI, and the build.
set -euo pipefail
mkdir -p "$1"
folder=$(realpath "$1")
cd "$(dirname "$0")/.."
root=$folder/root
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
version=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')

if [ ! -x "$root/usr/bin/python$version" ]; then
    debootstrap --download-only --arch=arm64 --variant=minbase \
        --include="python$version,libpython$version-dev,libgomp1,libstdc++6" "$release" "$folder/debs"
    for package in "$folder"/debs/var/cache/apt/archives/*.deb; do dpkg -x "$package" "$root"; done
fi
# Python's header asks for its processor's part by this path; nothing else of that folder is wanted.
mkdir -p "$folder/include/aarch64-linux-gnu" "$folder/site"
ln -sfn "$root/usr/include/aarch64-linux-gnu/python$version" \
    "$folder/include/aarch64-linux-gnu/python$version"
python3 -m pip install --quiet --upgrade --target "$folder/site" --python-version "$version" \
    --only-binary :all: --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 numpy

python3 -m pip install --quiet --upgrade --target "$folder/tools" pybind11
cmake -S . -B "$folder/build" -DCMAKE_BUILD_TYPE=Release -DSEQFAST_CUDA=OFF -DSEQFAST_WERROR=ON \
    -DSEQFAST_GLIBC=2.28 -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
    -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_CXX_FLAGS="-I$folder/include" \
    -DPython_EXECUTABLE=/usr/bin/python3 -DPython_INCLUDE_DIR="$root/usr/include/python$version" \
    -Dpybind11_DIR="$folder/tools/pybind11/share/cmake/pybind11" -DPYBIND11_FINDPYTHON=ON \
    -DSKBUILD_PROJECT_VERSION="$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)"
cmake --build "$folder/build" --parallel "$(nproc)"

rm -rf "$folder/site/seqfast"
cp -r seqfast "$folder/site/seqfast"
rm -f "$folder"/site/seqfast/_C*.so
cp "$folder"/build/_C*.so "$folder/site/seqfast/_C.so"
aarch64-linux-gnu-readelf -W --dyn-syms "$folder/site/seqfast/_C.so" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -1
# qemu runs what the program starts with the same settings only where binfmt knows it; so no children.
PYTHONPATH=$folder/site OMP_NUM_THREADS=2 \
    qemu-aarch64 -L "$root" "$root/usr/bin/python$version" packaging/smoke.py --no-torch --no-children
