"""The arena's arithmetic: two stacks that grow towards each other, as a list of steps.

Persistent memory (the tail) grows down from the arena's end, the head and temporaries grow up
from its start. Every step needs some number of bytes in all; the largest need is the least arena.
All alignments divide 16, so that needs depend on the arena's size modulo 16 only.
"""

from __future__ import annotations

from litejit.micro.structs import PLANNER_BUFFER_BYTES, round_up
from litejit.record import Record

ENDLESS = 1 << 60  # bytes: an arena in which everything fits


class Persist(Record):
    """`nbytes` from the tail, at an address that is a multiple of `align`.

    `category` is where the allocator's books enter it, "" for nowhere; `count` is what it adds to
    the number of entries. `guarded` demands that it leaves live temporaries alone, which TFLM
    does not check; an arena that is too small by that measure may or may not work there.
    """

    nbytes: int
    align: int
    category: str = ""
    count: int = 1
    guarded: bool = False


class Temporary(Record):
    """`nbytes` above the head, until the next Reset."""

    nbytes: int
    align: int


class Reset(Record):
    """All temporaries end."""


class Resize(Record):
    """The head takes its first `nbytes`; temporaries end. A `soft` one may fail."""

    nbytes: int
    soft: bool = False


class Planner(Record):
    """The planner takes what is left, and needs room for `buffers` entries there."""

    buffers: int


Step = Persist | Temporary | Reset | Resize | Planner


class Category(Record):
    """What one line of TFLM's report says: bytes with alignment, bytes asked for, entries."""

    used: int = 0
    requested: int = 0
    count: int = 0


class Need(Record):
    """How large the arena must be for one step, and TFLM's word for what the step takes."""

    arena_bytes: int
    requested: int
    kind: str


class Ledger(Record):
    """What the steps come to: final head and tail, the books, and the need of every step."""

    head: int
    tail: int
    categories: tuple[tuple[str, Category], ...]
    needs: tuple[Need, ...]

    @property
    def least(self) -> int:
        """The bytes that every step can do with."""
        return max((need.arena_bytes for need in self.needs), default=0)


class _Books:
    """The state of the two stacks while steps are taken; `tail` counts from the arena's end."""

    def __init__(self, arena_bytes: int, *, guarded: bool) -> None:
        self.arena_bytes = arena_bytes
        self.guarded = guarded
        self.residue = arena_bytes % 16
        self.head = self.temp = self.tail = 0
        self.categories: dict[str, Category] = {}
        self.needs: list[Need] = []

    def need(self, arena_bytes: int, requested: int, kind: str) -> None:
        self.needs.append(Need(arena_bytes, requested, kind))

    def persist(self, step: Persist) -> None:
        # The new tail is down(size - tail - nbytes, align): what is cut off joins the block.
        cut = (self.residue - self.tail - step.nbytes) % step.align
        used = step.nbytes + cut
        self.tail += used
        floor = self.temp if step.guarded and self.guarded else self.head
        self.need(self.tail + floor, step.nbytes, "tail")
        if step.category:
            old = self.categories.get(step.category, Category())
            self.categories[step.category] = Category(
                old.used + used, old.requested + step.nbytes, old.count + step.count
            )

    def temporary(self, step: Temporary) -> None:
        self.temp = round_up(self.temp, step.align) + step.nbytes
        self.need(self.temp + self.tail, step.nbytes, "temp")

    def resize(self, step: Resize) -> None:
        if step.soft and self.arena_bytes - self.tail < step.nbytes:
            return  # TFLM ignores this failure: the head stays what it was
        self.head = self.temp = step.nbytes
        if not step.soft:
            self.need(self.tail + step.nbytes, step.nbytes, "head")

    def planner(self, step: Planner) -> None:
        cut = (self.residue - self.tail) % 16
        wanted = PLANNER_BUFFER_BYTES * step.buffers
        self.need(round_up(self.temp, 16) + wanted + self.tail + cut, wanted, "planner")


def settle(steps: list[Step], arena_bytes: int = ENDLESS, *, guarded: bool = True) -> Ledger:
    """Take all steps in an arena of that size, going on where one of them does not fit.

    Without `guarded`, persistent memory may run into live temporaries, as in TFLM.
    """
    books = _Books(arena_bytes, guarded=guarded)
    for step in steps:
        if isinstance(step, Persist):
            books.persist(step)
        elif isinstance(step, Temporary):
            books.temporary(step)
        elif isinstance(step, Resize):
            books.resize(step)
        elif isinstance(step, Planner):
            books.planner(step)
        else:
            books.temp = books.head
    categories = tuple(books.categories.items())
    return Ledger(books.head, books.tail, categories, tuple(books.needs))


def least_arena(steps: list[Step], *, guarded: bool = True) -> int:
    """The smallest multiple of 16 bytes in which no step fails; `guarded` as for `settle`."""
    low, high = 0, round_up(settle(steps, guarded=guarded).least, 16) // 16
    while low < high:
        middle = (low + high) // 2
        if settle(steps, 16 * middle, guarded=guarded).least <= 16 * middle:
            high = middle
        else:
            low = middle + 1
    return 16 * high


def shortage(ledger: Ledger, arena_bytes: int) -> str:
    """TFLM's words for the first step that does not fit into the arena; "" where all do."""
    for need in ledger.needs:
        missing = need.arena_bytes - arena_bytes
        if missing > 0:
            have = max(need.requested - missing, 0)
            if need.kind == "planner":
                return f"Too many buffers (max is {have // PLANNER_BUFFER_BYTES})"
            what = {"head": "resize buffer", "tail": "allocate tail memory"}.get(
                need.kind, "allocate temp memory"
            )
            return (
                f"Failed to {what}. Requested: {need.requested}, available {have}, "
                f"missing: {need.requested - have}"
            )
    return ""
