#!/bin/sh
# Match a target's sightings: match_on_ray.sh TARGET, on the head of a Ray cluster, in its clone. Pairs of blocks that a head
# before it has finished stay in machine.blocks.
set -eu
sh infra/prefect/check_out.sh
dvc repro --pull --single-item "match@$1"
dvc push --run-cache "match@$1"
