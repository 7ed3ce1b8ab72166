"""Turn a trained network into a version that is served: ONNX graphs, evidence, the gate, drift."""
