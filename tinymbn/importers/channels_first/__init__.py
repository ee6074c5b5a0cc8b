"""What files have in common whose maps are (N, C, H, W): those of ONNX and of PyTorch."""
