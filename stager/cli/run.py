"""``stager run``: a job from its inputs to its results, with no server."""

import typer


def run(context: typer.Context) -> int:
    """Run."""
    return 0
