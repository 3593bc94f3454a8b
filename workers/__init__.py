"""The Celery app of a farm: `celery -A workers worker -Q fetch` on a data node, `-Q work` on compute nodes."""
