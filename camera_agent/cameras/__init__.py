"""One module per kind of camera, loaded when a camera of its kind is opened.

To add a kind: implement `camera.Camera` or `camera.Recording`, add it to `factory`, and its key to
`config.settings.CameraSettings`.
"""
