"""Delete from a Prefect server the deployments that the project made and that prefect.yaml no longer has.

`python -m infra.prefect.outdated` does so on the server that PREFECT_API_URL names.

A deployment is the project's if it has the tag `qaconv-managed`, which prefect.yaml gives, or if it is one of those in
UNTAGGED, which were made before there was a tag. People's own deployments have neither, and stay.
"""

from pathlib import Path

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, DeploymentFilterTags

DEPLOYMENTS = Path(__file__).with_name("prefect.yaml")
TAG = "qaconv-managed"
UNTAGGED = {  # entrypoint and name
    ("flows/watch.py:watch", "daily"),
    ("flows/fit_deployment.py:fit_deployment", "by-hand"),
}


def delete_outdated(client: SyncPrefectClient) -> list[str]:
    """Delete the project's deployments that prefect.yaml does not name, with the runs that Prefect has scheduled.

    Args:
        client: client of the server, after `prefect deploy --all`.

    Returns:
        The name and the entrypoint of each deleted deployment.
    """
    written = yaml.safe_load(DEPLOYMENTS.read_text(encoding="utf-8"))["deployments"]
    current = {(entry["entrypoint"], entry["name"]) for entry in written}
    old_names = DeploymentFilterName(any_=sorted(name for _, name in UNTAGGED))
    tagged = client.read_deployments(deployment_filter=DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG])))
    untagged = [
        deployment
        for deployment in client.read_deployments(deployment_filter=DeploymentFilter(name=old_names))
        if (deployment.entrypoint, deployment.name) in UNTAGGED
    ]
    outdated = {
        deployment.id: f"{deployment.name} ({deployment.entrypoint})"
        for deployment in [*tagged, *untagged]
        if (deployment.entrypoint, deployment.name) not in current
    }
    for deployment_id in outdated:
        client.delete_deployment(deployment_id)
    return list(outdated.values())


def main() -> None:
    """Delete what is outdated, and print a line for each."""
    with get_client(sync_client=True) as client:
        for deployment in delete_outdated(client):
            print(f"deleted the deployment {deployment}, which prefect.yaml no longer has")


if __name__ == "__main__":
    main()
