#!/bin/sh
# On every node of a training over several, within its clone: train_together.sh METHOD. torchrun finds the other nodes by
# the PET_* variables that Kubeflow Trainer sets; the first process writes, and its node pushes what it has written.
set -eu
sh infra/prefect/check_out.sh
dvc pull --with-deps sources
mkdir -p artifacts /state/"$1"
ln -sfn /state/"$1" artifacts/unfinished  # on a volume, so that a pod that is replaced goes on where it was
torchrun --no-python qaconv train --method "$1"
if [ "${PET_NODE_RANK:-0}" = 0 ]; then
  dvc commit --force "train@$1"
  dvc push --run-cache "train@$1"
fi
