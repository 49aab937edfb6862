"""A camera that speaks RTSP and H.264, to be broken at will: `/usr/bin/python3 rtsp_camera.py FOLDER RATE [PORT]`.

Plays FOLDER's `00000.jpg`, `00001.jpg`, ... over and over, RATE a second, says `ready PORT`, and then does what each
line of its input says: `play`, `black` or `covered`. It imports nothing of ours, since GStreamer's modules come with
the system's interpreter: Debian's gir1.2-gst-rtsp-server-1.0, python3-gi and gstreamer1.0-plugins-good, -bad, -ugly.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

_PIPELINE = (
    "( multifilesrc location={folder}/%05d.jpg stop-index={last} loop=true caps=image/jpeg,framerate={rate}/1"
    " ! jpegdec ! videobalance name=light ! videoconvert ! identity sync=true"
    " ! x264enc tune=zerolatency speed-preset=superfast bitrate=1000 key-int-max={gop} ! h264parse"
    " ! rtph264pay name=pay0 pt=96 )"
)
_LIGHT = {"play": (0.0, 1.0, 1.0), "black": (-1.0, 0.0, 0.0), "covered": (0.5, 0.0, 0.0)}


class Camera:
    """One stream at `rtsp://127.0.0.1:PORT/yard`, the same for all who watch."""

    def __init__(self, folder: Path, rate: int, port: int) -> None:
        self._media: Any = None
        self._said = "play"
        self._server = GstRtspServer.RTSPServer(address="127.0.0.1", service=str(port))
        factory = GstRtspServer.RTSPMediaFactory(shared=True)
        last = len(list(folder.glob("*.jpg"))) - 1
        factory.set_launch(_PIPELINE.format(folder=folder, last=last, rate=rate, gop=2 * rate))
        factory.connect("media-configure", self._configured)
        self._server.get_mount_points().add_factory("/yard", factory)
        self._server.attach(None)

    @property
    def port(self) -> int:
        return int(self._server.get_bound_port())

    def heed(self, source: Any, condition: Any) -> bool:
        """Take a line of the input; false when it is over."""
        del source, condition
        said = sys.stdin.readline().strip()
        self._said = said or self._said
        self._obey()
        return bool(said)

    def _configured(self, factory: Any, media: Any) -> None:
        del factory
        self._media = media
        self._obey()

    def _obey(self) -> None:
        if self._media is not None:
            light = self._media.get_element().get_by_name("light")
            for name, value in zip(("brightness", "contrast", "saturation"), _LIGHT[self._said], strict=True):
                light.set_property(name, value)


def main() -> None:
    Gst.init(None)
    folder, rate, *port = sys.argv[1:]
    camera = Camera(Path(folder), int(rate), int(port[0]) if port else 0)
    sys.stdout.write(f"ready {camera.port}\n")
    sys.stdout.flush()
    GLib.io_add_watch(sys.stdin.fileno(), GLib.IO_IN | GLib.IO_HUP, camera.heed)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
