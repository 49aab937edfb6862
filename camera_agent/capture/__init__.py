"""When frames are taken, and which of them form a burst.

Live cameras: `live` on the slots of `schedule`, with `motion_bursts` where the camera has a gate. Recordings:
`playback`, with `recording_bursts`.
"""
