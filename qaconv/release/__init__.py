"""From a trained network to a version that is served: ONNX graphs, evidence, the gate, drift."""
