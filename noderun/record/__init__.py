"""What a run leaves behind while it runs: metrics.jsonl, TensorBoard, the terminal."""
