"""The Celery app with a broker that hands out a task again when it was not acknowledged within two seconds."""

from __future__ import annotations

from workers.celery import app

VISIBILITY_SECONDS = 2
app.conf.broker_transport_options = {
    **app.conf.broker_transport_options,
    "visibility_timeout": VISIBILITY_SECONDS,
}
