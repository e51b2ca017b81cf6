"""ONNX export: a checkpoint in, an FP32 ONNX file that finds the same boxes out."""
