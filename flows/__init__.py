"""Prefect flows: when and in what order the stages run, and what happens to their results."""

import os

os.environ.setdefault("DO_NOT_TRACK", "true")  # before MLflow and Prefect are imported: neither reports usage
