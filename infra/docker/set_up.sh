#!/bin/sh
# Buckets, work pools, the limit of GPU slots, automations and deployments; may be run again at any time.
# set_up.sh process: workers run flows themselves. set_up.sh kubernetes: on cpu and gpu each run is a Job, by the pool's base
# job template.
set -eu
cd /opt/qaconv
python - <<'END'
from pathlib import Path

import boto3
import yaml

client = boto3.client("s3")
known = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
for bucket in {"mlflow", "dvc", "incoming", "quarantine"} - known:
    client.create_bucket(Bucket=bucket)

# Those that tell people name a webhook's block, which is made in Prefect's pages; they are added there.
written = yaml.safe_load(Path("infra/prefect/automations.yaml").read_text())["automations"]
kept = [each for each in written if "00000000-0000-0000-0000-000000000000" not in str(each)]
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
# The deployments' pull steps name the folder that QACONV_HOME is on the worker, so it must not have a value here.
unset QACONV_HOME
prefect --no-prompt deploy --all --prefect-file infra/prefect/prefect.yaml
