#!/bin/sh
# Buckets, work pools, the limit of GPU slots, automations and deployments; may be run again at any time.
# set_up.sh process: workers run flows themselves. set_up.sh kubernetes: on cpu and gpu each run is a Job, by the pool's base
# job template.
set -eu
cd /opt/qaconv
python - <<'END'
import boto3

client = boto3.client("s3")
known = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
for bucket in {"mlflow", "dvc"} - known:
    client.create_bucket(Bucket=bucket)
END
for pool in flows cpu gpu; do
  case $1-$pool in
  kubernetes-cpu | kubernetes-gpu)
    template=infra/k8s/workers/$pool.json
    prefect work-pool create "$pool" --type kubernetes --overwrite --base-job-template "$template"
    ;;
  *) prefect work-pool create "$pool" --type process --overwrite ;;
  esac
done
prefect gcl inspect gpu >/dev/null 2>&1 || prefect gcl create gpu --limit 1
prefect automation inspect "Crash flow runs whose worker has died" >/dev/null 2>&1 ||
  prefect automation create --from-file infra/prefect/automations.yaml
# The deployments' pull steps name the folder that QACONV_HOME is on the worker, so it must not have a value here.
unset QACONV_HOME
prefect --no-prompt deploy --all --prefect-file infra/prefect/prefect.yaml
