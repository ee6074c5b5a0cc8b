"""TensorFlow Lite files: int8 ones as a Graph, float ones to be quantised."""
