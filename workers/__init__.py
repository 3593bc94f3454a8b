"""The Celery app of a farm.

    celery -A workers worker -Q fetch -P threads     on a data node: fetches files into the shared cache
    celery -A workers worker -Q work -P threads      on compute nodes: runs jobs

or, a process per core with one that starts them again, `stager worker`. Everything is set by stager's own
settings. Celery's other commands (inspect, control, events, multi) work as ever.
"""
