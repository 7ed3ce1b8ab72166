"""The stages of dvc.yaml: each reads its inputs and params.yaml, calls the library, and writes its outputs."""
