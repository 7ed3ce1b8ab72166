"""Paths of the files that stages read and write, relative to the project's folder, as in dvc.yaml."""

from pathlib import Path

RAW = Path("data/raw")  # <dataset>/: images as published
WEIGHTS = Path("data/weights")  # files that backbone.weights names, added by `dvc add`
PREPARED = Path("data/prepared")  # <dataset>/: manifest.parquet, summary.json
FINGERPRINTS = Path("data/fingerprints")  # <dataset>.parquet: sha256 and perceptual hash of each image
REVIEWS = Path("data/reviews")  # <target>.csv: people's answers about pairs of its sightings
CHECKED = Path("artifacts/checked")  # <dataset>.parquet: images that decode, as `prepare` remembers them
SOURCES = Path("data/sources")  # the training table
MODELS = Path("artifacts/model")  # <method>/: weights.safetensors, model.json, history.csv
UNFINISHED = Path("artifacts/unfinished")  # <method>.pt: state of an unfinished training; adapt-<target>/
FEATURES = Path("artifacts/features")  # <target>/<method>/: a MapStore, query rows before gallery rows
BLOCKS = Path("artifacts/blocks")  # <target>/: pairs of blocks of an unfinished match
MATCHES = Path("artifacts/matches")  # <target>/<method>/: tiles of logits, and nearest neighbours
RERANKED = Path("artifacts/reranked")  # <target>/<method>/: scores
TLIFT = Path("artifacts/tlift")  # <target>/<method>.json: temporal profiles; plots and their data
IDENTITIES = Path("artifacts/identities")  # <target>/: identities.parquet, visits.parquet, summary.json
ADAPTED = Path("artifacts/adapted")  # <target>/: network as in MODELS, rounds.csv, metrics.json, profile.json
ADAPTED_ONNX = Path("artifacts/adapted_onnx")  # <target>/: encoder.onnx, matcher.onnx, contract.json
ONNX = Path("artifacts/onnx")  # encoder.onnx, matcher.onnx, contract.json
REPORT = Path("artifacts/report")  # report.html, report.json
METRICS = Path("metrics")  # <target>.json; cmc/<target>.csv and other tables
