"""The whole thing on real input in one go: enqueue, work, kill a worker, and check every thread.

What is checked is a ledger that the handlers write, not the queue's own tables. `play` is the story
from beginning to end; the other files are its stage, its crew and its props.
"""

from pgmailbox.demo.conversation import Line, Transcript, converse
from pgmailbox.demo.events import Event, read_events, sample_path
from pgmailbox.demo.play import play
from pgmailbox.demo.report import DemoReport, Kill, ThreadReport
from pgmailbox.demo.stage import Stage, own_schema, own_server

__all__ = [
    "DemoReport",
    "Event",
    "Kill",
    "Line",
    "Stage",
    "ThreadReport",
    "Transcript",
    "converse",
    "own_schema",
    "own_server",
    "play",
    "read_events",
    "sample_path",
]
