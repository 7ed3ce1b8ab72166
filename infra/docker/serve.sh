#!/bin/sh
# Run one server of this image, with its secrets from the environment: serve.sh s3, mlflow, prefect, or set-up (which ends).
set -eu
umask 077
case $1 in
s3)
  cat >/tmp/s3.json <<END
{"identities": [{"name": "qaconv", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
  "credentials": [{"accessKey": "$AWS_ACCESS_KEY_ID", "secretKey": "$AWS_SECRET_ACCESS_KEY"}]}]}
END
  # Only S3's port leads out of the container; the internal ports require the tokens of WEED_JWT_*.
  exec weed server -ip=127.0.0.1 -ip.bind=127.0.0.1 -dir=/data -master.volumeSizeLimitMB=1024 -master.telemetry=false \
    -volume.max=0 -s3 -s3.ip.bind=0.0.0.0 -s3.port=8333 -s3.port.iceberg=0 -s3.port.lance=0 -s3.config=/tmp/s3.json
  ;;
mlflow)
  database=postgresql+psycopg2://mlflow:$MLFLOW_DATABASE_PASSWORD@postgres:5432
  cat >/tmp/mlflow_auth.ini <<END
[mlflow]
default_permission = READ
auth_cache_ttl_seconds = 60
database_uri = $database/mlflow_auth
admin_username = $MLFLOW_TRACKING_USERNAME
admin_password = $MLFLOW_TRACKING_PASSWORD
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
END
  export MLFLOW_AUTH_CONFIG_PATH=/tmp/mlflow_auth.ini MLFLOW_BACKEND_STORE_URI="$database/mlflow"
  export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false  # saves eight processes that judge language models
  exec mlflow server --app-name basic-auth --host 0.0.0.0 --port 5000 --allowed-hosts "mlflow:5000,localhost:5000" \
    --artifacts-destination s3://mlflow
  ;;
prefect)
  export PREFECT_API_DATABASE_CONNECTION_URL="postgresql+asyncpg://prefect:$PREFECT_DATABASE_PASSWORD@postgres:5432/prefect"
  # Keep events that wait for earlier ones in the database, not in this process.
  export PREFECT_SERVER_EVENTS_CAUSAL_ORDERING=prefect.server.events.ordering.db
  # Keep the holders of slots on the volume: a server that forgets them would never free the slots.
  export PREFECT_HOME=/data PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=prefect.server.concurrency.lease_storage.filesystem
  export PREFECT_SERVER_API_AUTH_STRING="$PREFECT_API_AUTH_STRING"
  export PREFECT_SERVER_UI_STATIC_DIRECTORY=/tmp/pages  # it writes its address into its pages, and has no permission where pip installed them
  exec prefect server start --host 0.0.0.0 --port 4200
  ;;
set-up)
  exec sh /opt/qaconv/infra/docker/set_up.sh "$2"
  ;;
*)
  echo "serve.sh: unknown server $1, allowed: s3, mlflow, prefect, set-up" >&2
  exit 2
  ;;
esac
