#!/bin/sh
# Create a role and a database each for MLflow, its users, and Prefect, when PostgreSQL's volume is new.
set -eu
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
  --set mlflow="$MLFLOW_DATABASE_PASSWORD" --set prefect="$PREFECT_DATABASE_PASSWORD" <<'END'
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow';
CREATE ROLE prefect LOGIN PASSWORD :'prefect';
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
CREATE DATABASE prefect OWNER prefect;
END
