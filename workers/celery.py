"""The app: ``celery -A workers ...``."""

from __future__ import annotations

import sys

from celery import Celery

from stager.errors import StagerError
from stager.settings import current_settings
from workers.config import configuration


def make_app() -> Celery:
    """The app, set up by the settings of this process."""
    made = Celery("workers", include=["workers.tasks", "workers.lifecycle"])
    made.conf.update(configuration(current_settings()))
    return made


try:
    app = make_app()
except StagerError as error:
    sys.exit(f"stager: {error}")
