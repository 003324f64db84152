"""Pieces of HTML that all parts of a report's page are made of."""

from __future__ import annotations

import html

from perf._read.recording import Step


def escape(text: str) -> str:
    """The text as HTML: a name may hold anything, lone surrogates too."""
    safe = text.encode(errors="backslashreplace").decode()
    return html.escape(safe, quote=True)


def section(title: str, content: str) -> str:
    """A part of the page; the title is text, the content HTML."""
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def table(head: str, rows: str) -> str:
    """A table that scrolls where the screen is too narrow for it; of HTML."""
    return (
        f"<div class='scroll'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def link_to(step: Step, text: str) -> str:
    """A link to a step in Perfetto, for a page that is served beside the trace."""
    time = f"visStart={step.begin_ns}&amp;visEnd={step.end_ns}"
    return f"<a href='./?{time}'>{text}</a>"
