"""TensorRT and edge engines: ONNX files in, one measured folder a target out."""
