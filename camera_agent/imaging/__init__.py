"""Frames and what is done to pictures: privacy masks, JPEG encoding, thumbnails.

`pillow` and `opencv` do the same with two libraries, so that an agent loads only the one that its cameras need.
"""
