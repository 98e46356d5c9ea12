"""The records of a run: its folder, metrics.jsonl, TensorBoard, the terminal."""
