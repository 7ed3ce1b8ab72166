"""Enrol crops in the service, and search by one of them and by all of them together.

Start the service with `qaconv serve`, then run `python examples/call_service.py TARGET CROP CROP` with crops of one
person on one camera.
"""

import base64
import os
import sys
from pathlib import Path

import httpx


def enrol_and_search(client: httpx.Client, target: str, crops: list[bytes]) -> None:
    """Enrol image files as sightings on camera 0, and search with the first, then with all as one query."""
    images = [base64.b64encode(crop).decode() for crop in crops]
    sightings = [{"image": image, "camid": 0, "time_s": 10.0 * number} for number, image in enumerate(images)]
    enrolled = client.post(f"/v1/targets/{target}/sightings", json={"sightings": sightings})
    enrolled.raise_for_status()
    print(f"enrolled {len(enrolled.json()['ids'])} sightings")
    queries = [{"image": images[0]}, {"images": images[:16]}]
    answer = client.post(f"/v1/targets/{target}/search", json={"queries": queries, "top_k": 2})
    answer.raise_for_status()
    for matches in answer.json()["results"]:
        for match in matches:
            print(f"sighting {match['id']}: score {match['score']:.2f}, probability {match['probability']:.2f}")


def main(target: str, *paths: str) -> None:
    key = os.environ.get("QACONV_API_KEY")  # needed if the service was started with --keys
    headers = {"X-API-Key": key} if key else {}
    with httpx.Client(base_url="http://127.0.0.1:8000", headers=headers) as client:
        enrol_and_search(client, target, [Path(path).read_bytes() for path in paths])


if __name__ == "__main__":
    main(*sys.argv[1:])
