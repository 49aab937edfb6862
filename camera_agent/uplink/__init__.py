"""Sending to the server: bursts (`uplink`), heartbeats (`heartbeat`), and the byte budget that limits both.

Begin with `uplink`; `http_client` sends one request and says what its answer means.
"""
