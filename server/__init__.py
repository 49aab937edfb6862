"""The ensemble server: bursts of stills in, presence and movement events out.

Reading order follows a burst. `intake` takes it off the wire and `burst` checks it; `pipeline` is its whole story,
and knows neither flask nor torch nor SQL: `ensemble` (the one door to torch) gives labels, `sites` the policy in
force, `store` (the one door to SQL) the camera's turn, `refold` advances it, `receipt` is the answer. `delivery`
then drains the outbox into `channels`. `records` holds the values that travel between them, `errors` all that is
raised on purpose. `engine` stands before the ensemble: it shares images out over the cores, merges requests, and
refuses what cannot be in time. `service` says which ensemble a request is given, and swaps them: `loading` builds the
next one (`footprint`: whether both fit), `shadow` compares it with live traffic, `choice` keeps it over a restart,
`control` takes the command.
Beside that way lie `heartbeats` (with `beat` and `watching`: who is watching, and what is unobserved), `inference_v2`
(with `tensors`: the Open Inference Protocol), `metrics` and `admin` (probes and metrics, also on a port of their
own), `etag` (which ensemble answered) and `openapi` (all of it as a document).
`app` puts the parts together and starts nothing, `runtime` is their life; `hosting` and `commands` are how it is run.
Who may come in, and how: `admission` and `quota` (room and shares), `tokens`, `upload`; `worker` is Gunicorn's, with
`turnstile` (a full server's answer to a first line), `hurried` (nobody dawdles), `linger` (who is refused reads why).
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("sectorwatch")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0.0.0+checkout"
