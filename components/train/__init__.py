"""Training: a training set and the champion's weights in, a checkpoint out.

Networks are made small by choosing (`architectures/`, `yanshan search`), not by pruning channels: torch-pruning 1.6.1
follows dependencies through a traced graph and loses them in Ultralytics' C2f blocks, whose outputs are a list of
chunks (`IndexError` in its index mapping, for yolov8n, yolo11n and yolo26n alike). Nor is there training with fake
quantization: calibrate returns the few layers that INT8 ruins to float and keeps its half point without it.
"""
