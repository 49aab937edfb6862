"""Gunicorn's settings, for starting `gunicorn` by hand instead of `sectorwatch serve`:

    sectorwatch db upgrade
    gunicorn -c deploy/gunicorn.conf.py

`sectorwatch serve` uses the same settings without this file, and first checks sites, weights, database and port. Each
setting has its reason in `server/hosting/gunicorn_app.py`. Behind a proxy that buffers requests (nginx does),
Gunicorn's own thread worker is enough; choose it with `-k gthread`. The server's settings come from the file that
SECTORWATCH_CONFIG names and from SECTORWATCH_<NAME>.
"""

from server.hosting.gunicorn_app import gunicorn_options
from server.settings import load_settings

wsgi_app = "server.app:create_app()"
globals().update(gunicorn_options(load_settings(remembered=False)))

# Below this line any setting of Gunicorn may be overridden, for instance:
# backlog = 64
# For HTTPS set tls_cert and tls_key of the server. Gunicorn's certfile and keyfile have no deadlines for slow clients.
