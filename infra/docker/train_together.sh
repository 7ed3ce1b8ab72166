#!/bin/sh
# Train one method on several nodes: train_together.sh METHOD, on each node, in its clone. torchrun finds the other nodes by
# the PET_* variables that Kubeflow Trainer sets. The first process writes the network, and its node pushes it.
set -eu
sh infra/prefect/check_out.sh
dvc pull --with-deps sources
mkdir -p artifacts /state/"$1"
ln -sfn /state/"$1" artifacts/unfinished  # on a volume, so that a replaced pod resumes
torchrun --no-python qaconv train --method "$1"
if [ "${PET_NODE_RANK:-0}" = 0 ]; then
  dvc commit --force "train@$1"
  dvc push --run-cache "train@$1"
fi
