"""The stages of dvc.yaml: each reads inputs and params.yaml, calls the library, and writes outputs."""
