"""A compute node's side of jobs on Celery: takes hand-overs by their ids, runs them, tells.

The claim on the share makes one node alone run a hand-over, however often its task is delivered. On that
node jobs run as they do on the server (`LocalDispatcher`): each outlives this process, and the next one
goes on watching. What was told is kept until the server has recorded it, and told again should Redis have
lost it; the server says so by dropping the order.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stager.cache.store import FileCache
from stager.errors import CacheError, JobError, SignalsError
from stager.mapper.dispatch.away import ServerClaim, ServerSide, bring_back, clear_away, is_filled, not_away
from stager.mapper.dispatch.claims import NOBODY, NodeClaim
from stager.mapper.dispatch.local import LocalDispatcher
from stager.mapper.dispatch.near import Fill, prepare_near
from stager.mapper.dispatch.node_orders import NodeOrders
from stager.mapper.dispatch.prepare import prepare
from stager.mapper.dispatch.runs import RunsDirectory
from stager.model.events import DispatchOrder, JobEnded, JobSignal, JobStarted
from stager.signals.codec import job_order_from_json
from stager.signals.jobs import HandOverId, JobBook
from stager.signals.outbox import Outbox

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
"""Between two looks for cancels and for what the server has recorded; nothing happens while there is no job."""
AGAIN_SECONDS = 5.0
"""After the share refused a claim, it is tried again; an end that the server has not recorded is told again."""
LONGEST_AGAIN_SECONDS = 3600.0
"""The wait for that doubles up to here: the server may be away for a night."""
GRACE_SECONDS = 10.0
"""When this process ends, so long may it take to tell what is to be told."""


@dataclass(slots=True, eq=False)
class _Run:
    """A hand-over that this process looks after."""

    order: DispatchOrder
    has_slot: bool = False
    fills: bool = False  # its inputs are brought to this node, or were
    left: bool = False  # to the next process of this node, before all of them came
    handed: bool = False  # to the dispatcher: this node runs it
    stopped: bool = False
    end: JobSignal | None = None
    is_told: bool = False  # where what it leaves is brought back first
    told_in: str = ""  # the stream that has the end
    again_at: float = 0.0  # when it is told again, if the server still has not recorded it
    again_after: float = AGAIN_SECONDS

    @property
    def id(self) -> HandOverId:
        return self.order.job, self.order.epoch


class JobWorker:
    """One worker process of a compute node; `run` is called by as many threads as it has.

    Args:
        cache: on the share (but see `server`); closed by nobody.
        directory: on a local disk: what this node remembers of its jobs.
        book: orders; closed with the worker.
        outbox: takes the signals; closed with the worker.
        node: name of this node.
        slots: jobs at once.
        lease_seconds: how long the server waits for a sign of life.
        grace_seconds: of a job that is ended, from SIGTERM to SIGKILL.
        near: the node's own cache, if it has one.
        fill: brings inputs into it.
        server: keeps the claims and takes what jobs leave, where this node does not see its cache; `cache` is then
            the node's own.
    """

    def __init__(
        self,
        cache: FileCache,
        directory: Path,
        book: JobBook,
        outbox: Outbox,
        *,
        node: str,
        slots: int,
        lease_seconds: float,
        grace_seconds: float,
        near: FileCache | None = None,
        fill: Fill | None = None,
        server: ServerSide | None = None,
    ) -> None:
        self._cache = cache
        self._near = near
        self._fill = fill
        self._server = server
        self._orders = NodeOrders(directory / "orders")
        self._files = RunsDirectory(directory / "runs")
        self._book = book
        self._outbox = outbox
        self._node = node
        self._slots = slots
        self._alive_every = lease_seconds / 4
        self._changed = threading.Condition()
        self._runs: dict[HandOverId, _Run] = {}
        self._stream = ""
        self._draining = False
        self._closed = False
        self._dispatcher = LocalDispatcher(
            cache,
            directory / "runs",
            self._hear,
            grace_seconds=grace_seconds,
            prepare=prepare if near is None else partial(prepare_near, near),
        )
        self._files.forget_old(self._orders.jobs(), now=time.time())
        self._left = self._orders.adopt()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._keeper.start()

    def run(self, job: str, epoch: int, note: Callable[[str], None] = lambda _: None) -> None:
        """Run it, if it is still wanted and nobody else has it; returns at its end, or when this process is to end.

        Args:
            job: id of the job.
            epoch: of the hand-over.
            note: told what is being run, without secrets.

        Raises:
            SignalsError: Redis can't be used, so nothing was begun; the server will find out.
        """
        one = job, epoch
        found = self._book.find(one)
        if found.order is None:
            return  # over, and recorded
        with self._changed:
            known = self._runs.get(one)
            if known is not None:
                known.told_in = ""  # the server asks: should it be over, it is told again
                return
            run = self._runs[one] = _Run(job_order_from_json(found.order), stopped=found.cancelled)
            self._stream = found.stream
            self._changed.notify_all()
        note(f"job {run.order.name or job}")
        try:
            if self._wait_for_slot(run):
                self._begin(run, found.order)
        finally:
            if not run.handed and run.end is None and not run.left:
                self._forget(run)
        if run.handed:
            with self._changed:
                self._changed.wait_for(lambda: run.end is not None or self._draining)

    def drain(self) -> None:
        """Take nothing more. Jobs go on; the next process of this node looks after them."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()

    def close(self) -> None:
        """Drain, see that what is to be told is told, and end."""
        self.drain()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._keeper.join()
        self._dispatcher.close()
        self._outbox.close(GRACE_SECONDS)
        self._orders.close()
        self._book.close()

    @property
    def busy(self) -> int:
        """Jobs that are on."""
        return sum(1 for run in list(self._runs.values()) if run.end is None)

    # -- from the task to the start -------------------------------------------------------------

    def _wait_for_slot(self, run: _Run) -> bool:
        """Those that another process of this node started are on as well, wanted or not."""
        if self._files.files(*run.id).is_claimed():
            run.has_slot = True
            return True

        def has_slot() -> bool:
            return sum(1 for one in self._runs.values() if one.has_slot and one.end is None) < self._slots

        with self._changed:
            self._changed.wait_for(lambda: self._draining or (not self._left and has_slot()))
            run.has_slot = not self._draining
        return run.has_slot

    def _begin(self, run: _Run, text: str) -> None:
        """Claim it and hand it to the dispatcher, unless another node has it, or another process of this one."""
        while True:
            try:
                holder = self._claim(run).take(self._node) if self._orders.keep(run.id, text) else ""
            except (OSError, CacheError) as error:
                log.warning("job %s waits to be claimed: %s", run.order.job, error)
                with self._changed:
                    if self._changed.wait_for(lambda: self._draining, AGAIN_SECONDS):
                        return
                continue
            if holder == self._node:
                self._fill_and_start(run)
            elif holder == NOBODY:
                self._hear(JobEnded(*run.id, None, JobError("cancelled before it started")))
            else:
                log.info("job %s is left to %s", run.order.job, holder or "another process of this node")
            return

    def _fill_and_start(self, run: _Run) -> None:
        """Bring its inputs to this node first, as far as that can be done; the rest it reads from the share, or waits for."""
        if self._server is not None and run.order.restricted:
            self._hear(not_away(run.order))
            return
        if self._fill is not None:
            with self._changed:
                run.fills = True
            while True:
                lost = self._fill(run.order.inputs, lambda: run.stopped or self._draining)
                if self._server is None or run.stopped or is_filled(self._cache, run.order, lost):
                    break
                log.warning("job %s waits for its inputs", run.order.job)
                with self._changed:
                    if self._changed.wait_for(lambda: self._draining, AGAIN_SECONDS):
                        run.left = True
                        return
        self._start(run)

    def _start(self, run: _Run) -> None:
        with self._changed:
            run.handed = True
            stopped = run.stopped
        if stopped:
            self._dispatcher.stop(*run.id)
        self._dispatcher.hand_over(run.order)

    def _adopt(self) -> None:
        """Go on with what a process before this one left.

        Raises:
            SignalsError, OSError: not all of them; to be called again.
        """
        if self._left:
            self._stream = self._book.look(()).stream
        while self._left:
            one, text = next(iter(self._left.items()))
            try:
                run = _Run(job_order_from_json(text), has_slot=True)
            except ValueError:  # cut off in the middle: so nothing had been claimed
                self._orders.forget(one)
                del self._left[one]
                continue
            is_started = self._files.files(*one).is_claimed()
            wanted = is_started  # then it has an end to be told
            if not wanted and self._claim(run).holder() == self._node:
                found = self._book.find(one)
                wanted, run.stopped = found.order is not None, found.cancelled
            with self._changed:
                if wanted:
                    self._runs[one] = run
            if wanted:
                log.info("job %s is looked after again", run.order.job)
                if is_started or self._fill is None:
                    self._start(run)
                else:
                    fill = threading.Thread(
                        target=self._fill_and_start, args=(run,), name="fill", daemon=True
                    )
                    fill.start()
            else:
                self._orders.forget(one)
            del self._left[one]
        with self._changed:
            self._changed.notify_all()

    def _claim(self, run: _Run) -> NodeClaim | ServerClaim:
        if self._server is not None:
            return ServerClaim(self._server, *run.id)
        return NodeClaim(self._cache.job_dir(run.order.job), run.order.epoch)

    # -- from the start to the end --------------------------------------------------------------

    def _hear(self, signal: JobSignal) -> None:
        """What the dispatcher tells of a run."""
        with self._changed:
            run = self._runs.get((signal.job, signal.epoch))
            if run is None or run.end is not None or self._closed:
                return
            if not isinstance(signal, JobStarted):
                run.end = signal
                self._changed.notify_all()
        what = {JobStarted: "started", JobEnded: "ended"}.get(type(signal), "refused")
        about = {"action": f"job.{what}", "job": signal.job, "epoch": signal.epoch}
        about["request_id"] = run.order.request_id
        log.info("job %s on %s", what, self._node, extra=about)
        if self._server is not None and isinstance(signal, JobEnded):
            threading.Thread(target=self._deliver, args=(run, signal), name="deliver", daemon=True).start()
        else:
            self._tell(run, signal)

    def _deliver(self, run: _Run, end: JobEnded) -> None:
        """Bring back what the job left, before its end is told; the next process does it if this one can't."""
        assert self._server is not None
        brought = bring_back(self._server, run.order, end, self._closed_within)
        if brought is None:
            return
        with self._changed:
            run.end, run.is_told = brought, True
        self._tell(run, brought)

    def _closed_within(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, seconds)

    def _tell(self, run: _Run, signal: JobSignal) -> None:
        if run.end is not None:
            run.told_in = self._stream
            run.again_at = time.monotonic() + run.again_after
            run.again_after = min(run.again_after * 2, LONGEST_AGAIN_SECONDS)
        self._outbox.tell(signal)

    def _forget(self, run: _Run) -> None:
        self._orders.forget(run.id)
        with self._changed:
            self._runs.pop(run.id, None)
            again = any(one.order.job == run.order.job for one in self._runs.values())
        if again:
            return
        if self._near is not None:
            self._near.release(run.order.job)
        elif self._server is not None:
            clear_away(self._cache, run.order, run.end)

    # -- the keeper -----------------------------------------------------------------------------

    def _keep(self) -> None:
        """Look after the jobs, as long as there are any; then sleep."""
        alive_at = 0.0
        failing = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._runs or self._left or self._closed)
            now = time.monotonic()
            alive = now - alive_at >= self._alive_every
            try:
                if alive:  # another process of this node may have been killed
                    self._left |= self._orders.adopt()
                self._adopt()
                self._look(alive=alive)
            except (SignalsError, CacheError, OSError) as error:
                # jobs go on; the outbox says that Redis is away
                log.log(logging.WARNING if self._left and not failing else logging.DEBUG, "%s", error)
                failing = True
            except Exception:  # a fault of ours must not leave the node deaf
                log.exception("internal fault in the keeper")
            else:
                failing = False
                alive_at = now if alive else alive_at
            with self._changed:
                if self._changed.wait_for(lambda: self._closed, TICK_SECONDS):
                    return

    def _look(self, *, alive: bool) -> None:
        with self._changed:
            runs = list(self._runs.values())
        if not runs:
            return
        if alive:
            self._outbox.progress(jobs=[run.id for run in runs if run.handed or run.fills])
        news = self._book.look([run.id for run in runs])
        self._stream = news.stream
        for run in runs:
            if run.end is None:
                if run.id in news.cancelled:
                    self._stop(run)
            elif self._server is not None and isinstance(run.end, JobEnded) and not run.is_told:
                continue  # it is being brought back
            elif news.stream and (run.told_in != news.stream or time.monotonic() > run.again_at):
                self._tell(run, run.end)  # Redis lost it, or the server is away
            elif news.stream and run.id not in news.ordered:
                self._files.files(*run.id).settle()
                self._forget(run)

    def _stop(self, run: _Run) -> None:
        with self._changed:
            stop_now = run.handed and not run.stopped
            run.stopped = True
        if stop_now:
            log.info("job %s is ended: it is cancelled", run.order.job)
            self._dispatcher.stop(*run.id)
