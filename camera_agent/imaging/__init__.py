"""Pictures: what a frame is, privacy masks, and JPEGs through Pillow or OpenCV."""
