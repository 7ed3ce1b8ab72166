"""Where the stages put things, below the project's folder: the same paths as in dvc.yaml."""

from pathlib import Path

RAW = Path("data/raw")  # <dataset>/: images as published
PREPARED = Path("data/prepared")  # <dataset>/: manifest.parquet, summary.json
SOURCES = Path("data/sources")  # the training table
MODELS = Path("artifacts/model")  # <method>/: weights.safetensors, model.json, history.csv
UNFINISHED = Path("artifacts/unfinished")  # <method>.pt: a killed training's state
FEATURES = Path("artifacts/features")  # <target>/<method>/: a MapStore, query rows before gallery rows
MATCHES = Path("artifacts/matches")  # <target>/<part>/<method>.safetensors: logits, neighbours
RERANKED = Path("artifacts/reranked")  # <target>/<method>.safetensors: scores
TLIFT = Path("artifacts/tlift")  # <target>/<method>.json, with pictures and their data
ONNX = Path("artifacts/onnx")  # encoder.onnx, matcher.onnx, contract.json
REPORT = Path("artifacts/report")  # report.html, report.json
METRICS = Path("metrics")  # <target>.json; cmc/<target>.csv and other tables
