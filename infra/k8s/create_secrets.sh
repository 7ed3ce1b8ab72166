#!/bin/sh
# Create a Secret for each server, for the workers and for their Jobs, each with the variables that it needs and no others:
# create_secrets.sh secrets.env
set -eu
create() {
  secret=$1
  shift
  names=$(printf '|%s' "$@")
  grep -E "^(${names#|})=" "$file" | kubectl --namespace qaconv create secret generic "$secret" --from-env-file /dev/stdin
}
file=$1
s3="AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY"
mlflow="MLFLOW_TRACKING_USERNAME MLFLOW_TRACKING_PASSWORD"
create qaconv-postgres POSTGRES_PASSWORD MLFLOW_DATABASE_PASSWORD PREFECT_DATABASE_PASSWORD
# shellcheck disable=SC2086
create qaconv-s3 $s3 'WEED_JWT_[A-Z_]+'
# shellcheck disable=SC2086
create qaconv-mlflow $s3 $mlflow MLFLOW_DATABASE_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY
create qaconv-prefect PREFECT_DATABASE_PASSWORD PREFECT_API_AUTH_STRING
create qaconv-workers PREFECT_API_AUTH_STRING
# shellcheck disable=SC2086
create qaconv-clients $s3 $mlflow PREFECT_API_AUTH_STRING QACONV_REPOSITORY
