"""Gunicorn's settings, for whoever starts `gunicorn -c deploy/gunicorn.conf.py` by hand.

`sectorwatch serve` needs no such file: it uses the same settings (`server/hosting.py`, where each has its
reason), and checks sites, weights, database and port first. In short:

    one worker          each would hold its own copy of the models
    gthread             request threads wait for the ensemble and the database (server/worker.py: ours turns away
                        whom there is no room for without one, and lets nobody dawdle on one)
    threads             more than admission_limit, so that we refuse and Gunicorn's unseen queue stays empty
    no preload          a process that has computed with torch cannot be forked
    timeout             with gthread it watches the accepting loop, not a request
    graceful_timeout    outlasts the longest upload that was admitted
    worker_tmp_dir      on tmpfs: the heartbeat must not wait for a disk
    max_requests 0      a restart would be an outage

The server's own settings come from the file that SECTORWATCH_CONFIG names and from SECTORWATCH_<NAME>.
Bring the database up first: `sectorwatch db upgrade`.
"""

from server.hosting.gunicorn_app import gunicorn_options
from server.settings import load_settings

wsgi_app = "server.app:create_app()"
globals().update(gunicorn_options(load_settings()))

# Below this line anything of Gunicorn may be set anew, for instance:
# certfile = "/etc/sectorwatch/tls.crt"
# keyfile = "/etc/sectorwatch/tls.key"
