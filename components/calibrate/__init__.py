"""INT8 calibration: an FP32 ONNX file and training images in, a Q/DQ INT8 ONNX file out."""
