"""What both public trace writers are: writers of tracers and of what is handed over."""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from perf._exporting import attach_writer, make_folder_path
from perf._model.log import OnceLog
from perf._model.spans import Batch, Records
from perf._record import clock
from perf._record.tracer import Tracer
from perf._write.files import TraceFiles
from perf._write.layout import Layout
from perf._write.tags import RedactTags, TagRules
from perf._write.writer import TraceWriter


class TraceWriters:
    """Writes what tracers record and what it is handed, each to a file of its own.

    Args:
        folder: see the public writers, as for all that follows.
        layout: which track shows what of that which is handed over.

    Raises:
        ValueError: the folder is a URL of a kind that is not known, or tags are chosen
            by what cannot choose them.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None,
        layout: Layout,
        files: TraceFiles | None,
        redact_tags: RedactTags | None,
        keep_content: Iterable[str],
    ) -> None:
        self._folder = make_folder_path(folder)
        self._files = files or TraceFiles()
        self._tags = TagRules.of(redact_tags, keep_content)
        self._writer = self._new_writer(layout)
        self._handed: HandedOver | None = None
        """What that writer writes, once there is something."""
        self._has_tracer = False
        """Whether it was ever given one."""
        self._tracers: weakref.WeakSet[Tracer] = weakref.WeakSet()
        """Those that it was given."""
        self._attached: list[TraceWriter] = []
        """One for each tracer that is not closed, as of the last that was added."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # A copy is configuration: it writes files of its own.
        make = functools.partial(
            type(self),
            files=self._files,
            redact_tags=self._tags.redact,
            keep_content=self._tags.keep,
        )
        return make, (self._folder,)

    @property
    def attached(self) -> bool:
        """Whether it was given a tracer: then it writes what that records, no more."""
        return self._has_tracer

    def close(self) -> None:
        """Writes what is left and lets go of all files."""
        for writer in (self._writer, *self._attached):
            writer.close()

    def _new_writer(self, layout: Layout) -> TraceWriter:
        return TraceWriter(self._folder, layout, files=self._files, tags=self._tags)

    def is_attached_to(self, tracer: Tracer) -> bool:
        """Whether it was given this tracer."""
        return tracer in self._tracers

    def _attach(self, tracer: Tracer, layout: Layout, *, with_kept: bool) -> None:
        """Writes everything that a tracer records from now on."""
        writer = self._new_writer(layout)
        attach_writer(tracer, writer, with_kept=with_kept)
        self._tracers.add(tracer)
        self._attached = [each for each in self._attached if each.attached]
        self._attached.append(writer)
        self._has_tracer = True

    def _write(self, records: Records) -> None:
        """Writes records that no tracer gave, at once."""
        if self._handed is None:
            self._handed = HandedOver()
            self._writer.attach(self._handed)
        self._handed.put(records)
        self._writer.flush()


class HandedOver:
    """A source of what a user hands to a writer, instead of a tracer."""

    def __init__(self) -> None:
        self._records: Records = []
        self._is_closed = False
        self._log = OnceLog()

    def put(self, records: Records) -> None:
        """Queues records by their timelines; says if nobody takes them."""
        if not self._is_closed:
            self._records += records
        elif any(spans for _, spans in records):
            self._log.say(
                "closed", "spans handed to a trace writer that is closed are lost"
            )

    def drain(self, *, anew: bool = False) -> Batch:
        """Takes what was queued; called by the writer."""
        taken, self._records = self._records, []
        # Nobody says that spans made by hand nest.
        tangled = frozenset(info.id for info, _ in taken)
        return Batch(taken, [], tangled, clock.snapshot())

    def close(self) -> None:
        """Takes nothing any more; called by the writer."""
        self._is_closed = True
