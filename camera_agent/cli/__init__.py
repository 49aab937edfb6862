"""The commands `once`, `validate`, `doctor` and `coverage`. The parser and `run` are in `camera_agent/__main__.py`."""
