"""One module per kind of camera; each is loaded only when a camera of its kind is opened.

`stream` (OpenCV: a device, RTSP), `mjpeg` and `snapshot` (HTTP) and `picamera` (the Pi's own) are live: they give one
still when asked; `newest` reads those that never stop sending, `guarded` bounds them all. `video` and `folder` are
footage: they give pictures with instants of their own. `whynot` says why one cannot be opened. `opencv` makes JPEGs
with OpenCV, `jpeg` with Pillow, so that an agent without OpenCV cameras never loads it.
"""
