#!/bin/sh
# Create buckets, work pools, the limit of GPU slots, automations and deployments. May be run again at any time.
# set_up.sh process: workers run flows themselves. set_up.sh kubernetes: each run in the pools cpu and gpu is a Job, made
# from the pool's base job template.
set -eu
cd /opt/qaconv
python - <<'END'
from pathlib import Path

import boto3
import yaml

client = boto3.client("s3")
existing = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
for bucket in {"mlflow", "dvc", "incoming", "quarantine"} - existing:
    client.create_bucket(Bucket=bucket)

# Notifications name a webhook's block, which people create in Prefect's pages; they add these automations there too.
written = yaml.safe_load(Path("infra/prefect/automations.yaml").read_text())["automations"]
kept = [entry for entry in written if "00000000-0000-0000-0000-000000000000" not in str(entry)]
Path("/tmp/automations.yaml").write_text(yaml.safe_dump({"automations": kept}))
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
  prefect automation create --from-file /tmp/automations.yaml
# The pull steps contain QACONV_HOME, which each worker sets. Prefect would insert a value that it has here.
unset QACONV_HOME
prefect --no-prompt deploy --all --prefect-file infra/prefect/prefect.yaml
python -m infra.prefect.outdated
