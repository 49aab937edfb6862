"""One module per kind of camera; each is loaded only when a camera of its kind is opened.

`stream` (an OpenCV device, RTSP, MJPEG) and `snapshot` (HTTP) are live: they give one still when asked.
`video` and `folder` are footage: they give pictures with instants of their own. `opencv` is the one door to
OpenCV, `jpeg` the one to Pillow, so that an agent without OpenCV cameras never loads it.
"""
