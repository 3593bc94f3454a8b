"""Jobs on Celery compute workers.

A task is a hint, no more: the order lies in `JobBook`, the claim on the share makes one node alone run it
(`node`), and what comes of it arrives as signals. So this side keeps an eye on every order that is out: one
whose task is in no queue and that no node has claimed is sent again; one whose node has been silent for
long is over, and its job may have run.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from stager.cache.store import FileCache
from stager.clock import Clock
from stager.errors import CacheError, JobError, RunnerLostError
from stager.farm.names import WORK_QUEUE, node_queue
from stager.farm.sender import Sender
from stager.farm.tasks import TaskSender
from stager.mapper.dispatch.claims import NOBODY, NodeClaim
from stager.mapper.dispatch.given import Batch, Given, Item, given_of, id_of, task_of
from stager.mapper.dispatch.nearest import Nearest
from stager.model.events import DispatchOrder, JobEnded, JobRefused, JobSignal, JobStarted
from stager.model.fetches import Signal
from stager.signals.connection import ANSWER_SECONDS
from stager.signals.jobs import HandOverId, JobBook

log = logging.getLogger(__name__)

UNTAKEN_SECONDS = 5.0
"""A task that is in no queue and was not taken after so long is lost."""
THREADS = 2
"""They ask the share."""


class CeleryDispatcher:
    """Hands jobs to compute nodes.

    Args:
        cache: on the share that the nodes see as well.
        book: orders; closed with the dispatcher.
        sender: sends tasks; closed with the dispatcher.
        emit: takes the signals that don't come by the stream; called from several threads.
        clock: monotonic.
        lost_seconds: how long a node may be silent before its jobs count as lost.
        nearest: says where inputs are already; closed with the dispatcher. None: all nodes are alike.
        locality_wait_seconds: how long a job waits for that node before any node may have it.
    """

    def __init__(
        self,
        cache: FileCache,
        book: JobBook,
        sender: TaskSender,
        emit: Callable[[JobSignal], None],
        *,
        clock: Clock,
        lost_seconds: float,
        nearest: Nearest | None = None,
        locality_wait_seconds: float = 0.0,
    ) -> None:
        self._cache = cache
        self._book = book
        self._tasks = sender
        self._emit = emit
        self._clock = clock
        self._lost_seconds = lost_seconds
        self._nearest = nearest
        self._locality_wait = locality_wait_seconds
        self._lock = threading.Lock()
        self._given: dict[str, Given] = {}
        self._ends: dict[str, JobSignal] = {}  # of the newest hand-over of a job, until it is recorded
        self._closed = False
        self.lost_tasks = 0
        self.lost_nodes = 0
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="dispatch")
        self._tended_at = clock.monotonic()
        self._tend_seconds = min(lost_seconds / 4, UNTAKEN_SECONDS / 2, max(locality_wait_seconds / 2, 0.5))
        self._sender: Sender[Item] = Sender(
            self._send, self._tend, tend_seconds=self._tend_seconds, name="dispatch"
        )

    # -- the port -------------------------------------------------------------------------------

    def hand_over(self, order: DispatchOrder) -> None:
        """See `JobPlace.hand_over`."""
        with self._lock:
            end, given = self._ends.get(order.job), self._given.get(order.job)
            if end is not None and end.epoch != order.epoch:
                del self._ends[order.job]
                end = None
            known = given is not None and given.epoch == order.epoch
            if end is None and (given is None or not known):
                given = self._given[order.job] = given_of(order, self._clock.monotonic())
        if end is not None:
            self._tell(end)
        elif given is not None and not known:
            self._sender.put([given.order_in])
        elif given is not None and given.is_started:
            self._tell(JobStarted(order.job, order.epoch))

    def holds(self, job: str, epoch: int) -> bool:
        """See `JobPlace.holds`."""
        with self._lock:
            given = self._given.get(job)
        return given is not None and given.epoch == epoch

    def stop(self, job: str, epoch: int) -> None:
        """See `JobPlace.stop`."""
        with self._lock:
            given = self._given.get(job)
            if given is None or given.epoch != epoch:
                given = self._given[job] = Given(job, epoch, "", "", (), self._clock.monotonic())
            given.is_stopped = True
        self._sender.put([lambda batch: batch.cancels.append((job, epoch))])
        self._ask_share(self._forbid, given)

    def clean_up(self, job: str, epoch: int) -> None:
        """See `JobPlace.clean_up`."""
        with self._lock:
            self._given.pop(job, None)
            self._ends.pop(job, None)
        self._sender.put([lambda batch: batch.over.append((job, epoch))])
        self._ask_share(self._release, job)

    def tidy(self, open_jobs: Collection[str]) -> None:
        """See `JobPlace.tidy`."""
        still_open = frozenset(open_jobs)

        def tidy() -> None:
            for job, epoch in self._book.ids():
                if job not in still_open:
                    self.clean_up(job, epoch)

        self._sender.put([lambda batch: batch.calls.append(tidy)])

    def close(self) -> None:
        """Tell nothing any more. Jobs go on; what their nodes tell is heard by the next server."""
        self._closed = True
        self._sender.close(ANSWER_SECONDS)
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._book.close()
        self._tasks.close()
        if self._nearest is not None:
            self._nearest.close()

    # -- what is heard --------------------------------------------------------------------------

    def heard(self, signals: Sequence[Signal | JobSignal]) -> None:
        """Take note of what the stream of signals delivers."""
        for signal in signals:
            if isinstance(signal, JobStarted):
                self._alive((signal.job, signal.epoch), is_started=True)
            elif isinstance(signal, JobEnded | JobRefused):
                self._over(signal)

    def alive(self, jobs: Iterable[HandOverId]) -> None:
        """Take note of signs of life: somebody looks after these."""
        for one in jobs:
            self._alive(one)

    def emptied(self) -> None:
        """Redis has come back without what it knew: write all orders down anew, send again what was not taken."""
        now = self._clock.monotonic()
        with self._lock:
            given = list(self._given.values())
            for one in given:
                one.heard_at = now
        orders = {one.id: one.text for one in given if one.text}
        cancels = [one.id for one in given if one.is_stopped]
        again = [one for one in given if one.text and one.queue and not one.is_taken]

        def write() -> None:
            if orders:
                self._book.put(orders)
            if cancels:
                self._book.cancel(cancels)
            self._send_again(again)

        self._sender.put([lambda batch: batch.calls.append(write)])

    # -- the thread that sends ------------------------------------------------------------------

    def _send(self, items: Sequence[Item]) -> None:
        batch = Batch()
        for item in items:
            item(batch)
        for call in batch.calls:
            call()
        if batch.cancels:
            self._book.cancel(batch.cancels)
        fresh = [given for given in batch.orders if self._holds(given)]
        if fresh:
            for given, is_new in zip(fresh, self._book.put_new({g.id: g.text for g in fresh}), strict=True):
                given.is_new |= is_new  # this may be the second attempt
                given.queue, given.sent_at = WORK_QUEUE, self._clock.monotonic()
            self._deliver([given for given in fresh if given.is_new])
        if batch.over:
            self._book.drop(batch.over)

    def _deliver(self, some: Sequence[Given]) -> None:
        """Send each to the node that has most of its bytes, or to whoever takes it first."""
        if not some:
            return
        if self._nearest is not None:
            for given, node in zip(some, self._nearest.nodes([g.inputs for g in some]), strict=True):
                given.queue = WORK_QUEUE if node is None else node_queue(WORK_QUEUE, node)
        self._tasks.send([task_of(given) for given in some])
        now = self._clock.monotonic()
        for given in some:
            given.sent_at = now

    def _send_again(self, some: Iterable[Given]) -> None:
        """To whoever takes it first."""
        going = [given for given in some if self._holds(given) and given.text]
        if not going:
            return
        self.lost_tasks += len(going)
        log.warning("%d tasks were lost on the way to the compute nodes: sent again", len(going))
        self._book.put({given.id: given.text for given in going})
        self._send_to_all(going)

    def _send_to_all(self, going: Sequence[Given]) -> None:
        for given in going:
            given.queue = WORK_QUEUE
        self._tasks.send([task_of(given) for given in going])
        now = self._clock.monotonic()
        for given in going:
            given.sent_at = now

    def _tend(self) -> None:
        """Look for hand-overs that nobody looks after."""
        with self._lock:
            given = list(self._given.values())
        backlog = self._book.backlog({WORK_QUEUE, *(g.queue for g in given if g.queue)}) if given else 0
        now = self._clock.monotonic()
        away = now - self._tended_at - self._tend_seconds
        self._tended_at = now
        if away > self._tend_seconds:  # Redis was, or we were: that was not the nodes' silence
            for one in given:
                one.heard_at += away
                one.sent_at += away
        out = [g for g in given if not g.is_taken and g.queue]
        self._spread([g for g in out if g.queue != WORK_QUEUE and now - g.sent_at > self._locality_wait])
        old = [g for g in out if now - g.sent_at > UNTAKEN_SECONDS]
        if len(old) > backlog:
            queued = self._queued({g.queue for g in old}) if backlog else set()
            for one in old:
                if one.id not in queued:
                    self._look_for(one, self._judge_untaken)
        for one in given:
            silence = now - one.heard_at if one.is_taken or not one.queue else 0.0
            if silence > self._lost_seconds:
                self._look_for(one, self._judge_silent)
            elif silence > self._lost_seconds / 2 and not one.is_asked:
                one.is_asked = True
                self._look_for(one, self._ask_node)

    def _spread(self, late: Sequence[Given]) -> None:
        if late:
            log.info("%d jobs have waited for the node with their inputs: any node may have them", len(late))
            self._send_to_all(late)

    def _queued(self, queues: Collection[str]) -> set[HandOverId]:
        """Those whose task lies in one of the queues."""
        found = (id_of(message) for message in self._book.messages(queues))
        return {one for one in found if one is not None}

    # -- what the share knows -------------------------------------------------------------------

    def _look_for(self, given: Given, judge: Callable[[Given], None]) -> None:
        """Let `judge` ask the share; one that waits for an answer is enough."""
        if given.is_looked_for:
            return
        given.is_looked_for = True

        def look(_: object) -> None:
            try:
                judge(given)
            finally:
                given.is_looked_for = False

        self._ask_share(look, given)

    def _ask_share(self, work: Callable[..., None], argument: object) -> None:
        def guarded() -> None:
            try:
                work(argument)
            except (OSError, CacheError) as error:  # looked at again, at the next round or start
                log.warning("the share does not answer: %s", error)
            except Exception:
                log.exception("internal fault in the dispatcher")

        with suppress(RuntimeError):  # the pool is shut down: the next server does it
            self._pool.submit(guarded)

    def _claim(self, given: Given) -> NodeClaim:
        return NodeClaim(self._cache.root / "jobs" / given.job, given.epoch)

    def _forbid(self, given: Given) -> None:
        """Make sure that it never starts; one that a node has is ended there."""
        self._cache.job_dir(given.job)
        if self._claim(given).take(NOBODY) == NOBODY:
            self._end(given, JobEnded(*given.id, None, JobError("cancelled before it started")))

    def _judge_untaken(self, given: Given) -> None:
        """Its task is in no queue."""
        holder = self._claim(given).holder()
        if holder is None:
            self._sender.put([lambda batch: batch.calls.append(lambda: self._send_again([given]))])
        elif holder == NOBODY:
            self._end(given, JobEnded(*given.id, None, JobError("cancelled before it started")))
        else:  # a server before this one knew
            given.is_taken = True

    def _ask_node(self, given: Given) -> None:
        """Should a process of the node have been killed, another one may know."""
        holder = self._claim(given).holder()
        if holder not in {None, NOBODY} and given.text:
            task = task_of(given)._replace(queue=node_queue(WORK_QUEUE, str(holder)))
            self._sender.put([lambda batch: batch.calls.append(lambda: self._tasks.send([task]))])

    def _judge_silent(self, given: Given) -> None:
        """Nobody has said for long that he looks after it."""
        holder = self._claim(given).holder()
        if holder is None and given.is_stopped:
            self._forbid(given)
            return
        if holder is None:  # it was taken and not begun
            given.is_taken = False
            return
        if holder == NOBODY:
            self._end(given, JobEnded(*given.id, None, JobError("cancelled before it started")))
            return
        log.error("no word of job %s on %s for %.0f s", given.job, holder, self._lost_seconds)
        lost = RunnerLostError(
            f"job {given.job} was lost with its node",
            cause=f"no word of {holder} for {self._lost_seconds:.0f} s",
            remedy="submit it again if it may run twice",
        )
        self._sender.put([lambda batch: batch.cancels.append(given.id)])  # should it be alive after all
        if self._end(given, JobEnded(*given.id, None, lost)):
            self.lost_nodes += 1

    def _release(self, job: str) -> None:
        """Inputs and collected results go; what the job printed stays for people to read."""
        self._cache.release(job)

    # -- parts ----------------------------------------------------------------------------------

    def _holds(self, given: Given) -> bool:
        with self._lock:
            return self._given.get(given.job) is given

    def _alive(self, one: HandOverId, *, is_started: bool = False) -> None:
        with self._lock:
            given = self._given.get(one[0])
            if given is not None and given.epoch == one[1]:
                given.heard_at = self._clock.monotonic()
                given.is_taken, given.is_asked = True, False
                given.is_started |= is_started

    def _over(self, signal: JobSignal) -> bool:
        """Take note of an end; whether it was not known."""
        with self._lock:
            given = self._given.get(signal.job)
            if given is None or given.epoch != signal.epoch:
                return False
            del self._given[signal.job]
            self._ends[signal.job] = signal
        if isinstance(signal, JobRefused):  # it is not recorded as over: the next hand-over follows
            self._sender.put([lambda batch: batch.over.append((signal.job, signal.epoch))])
        return True

    def _end(self, given: Given, signal: JobSignal) -> bool:
        new = self._over(signal) if self._holds(given) else False
        if new:
            self._tell(signal)
        return new

    def _tell(self, signal: JobSignal) -> None:
        if not self._closed:
            self._emit(signal)
