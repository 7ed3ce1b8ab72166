#!/bin/sh
# Run a command in this container's clone of the project, which is cloned from QACONV_REPOSITORY if it is missing.
# Clones share their results by the S3 remote.
set -eu
if [ ! -d "$QACONV_HOME/.git" ]; then
  git clone --quiet "$QACONV_REPOSITORY" "$QACONV_HOME"
fi
cd "$QACONV_HOME"
if [ ! -f dvc.yaml ]; then
  echo "QACONV_REPOSITORY $QACONV_REPOSITORY: must have the project at its root, has no dvc.yaml there" >&2
  exit 2
fi
dvc config --local core.remote s3
dvc config --local remote.s3.url s3://dvc
exec "$@"
