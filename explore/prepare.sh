#!/bin/bash
# Puts what the GPU machine needs into CHECKOUT/.gpu (ignored there): this worktree and two wheels it lacks.
#   explore/prepare.sh CHECKOUT
set -e
here=$(cd "$(dirname "$0")/.." && pwd)
to=$1/.gpu
mkdir -p "$to/o10" "$to/whl"
rm -rf "$to/o10" && mkdir -p "$to/o10"
tar -C "$here" --exclude=__pycache__ -cf - src envs tools explore | tar -C "$to/o10" -xf -
python3 -m pip download -q --no-deps --only-binary=:all: -d "$to/whl" gymnasium==1.4.0 Farama-Notifications==0.0.6
du -sh "$to"
