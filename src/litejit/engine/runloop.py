"""The native run loop, as LLVM IR text. No globals, no imports.

Every outside address stands in a block of memory that `native.py` fills: ProgramBlock (one
run's state), PoolBlock (what a caller and its workers share), HostBlock (the process: functions
of Python and of the C library, the fork count).
"""

from __future__ import annotations

from litejit.codegen.isa import Isa
from litejit.engine import workers
from litejit.engine.layout import (
    BUSY,
    CANCELLED,
    FUNCTIONS,
    NOT_STARTED,
    REFUSED,
    HostBlock,
    PoolBlock,
    ProgramBlock,
)
from litejit.engine.workers import at, load
from litejit.errors import CodegenError

BACK_TO_BACK_NS = 200_000  # a brief run wakes workers if the last run ended less than this ago
COLD_RUNS = 16  # brief runs before workers are started

_PAUSE = {
    "x86_64": ("declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"),
    "aarch64": ("declare void @llvm.aarch64.hint(i32)", "call void @llvm.aarch64.hint(i32 1)"),
}
# Linux's numbers of futex, gettid and sched_setaffinity
_SYSCALLS = {"x86_64": (202, 186, 203), "aarch64": (98, 178, 122)}


_CLOCK = f"""
define internal i64 @clock(ptr %program) noinline $ATTRIBUTES {{
  %time = alloca [2 x i64]
  {load("host", "ptr", "program", ProgramBlock.HOST)}
  {load("clock", "ptr", "host", HostBlock.CLOCK)}
  {load("id", "i32", "host", HostBlock.CLOCK_ID)}
  %r = call i32 %clock(i32 %id, ptr %time)
  %seconds = load i64, ptr %time
  {load("rest", "i64", "time", 8)}
  %ns = mul i64 %seconds, 1000000000
  %sum = add i64 %ns, %rest
  ret i64 %sum
}}
"""

# runs steps from `start` until the time slice is over. Returns the number of the step to go on
# with (the count of steps: all done) or -code. `times`: null, or where each step's ns are put.
_STEPS = f"""
define internal i64 @steps(ptr %program, i64 %start, ptr %times) noinline $ATTRIBUTES {{
entry:
  %steps = load ptr, ptr %program
  {load("n", "i64", "program", ProgramBlock.COUNT)}
  {load("pool.or.null", "ptr", "program", ProgramBlock.POOL)}
  {load("slice", "i64", "program", ProgramBlock.SLICE)}
  {load("status", "ptr", "program", ProgramBlock.STATUS)}
  {at("stop.at", "program", ProgramBlock.STOP)}
  %timed = icmp ne ptr %times, null
  %pooled = icmp ne ptr %pool.or.null, null
  br i1 %pooled, label %lock, label %begin
lock:                                           ; another run has the workers: do without
  {at("lock.at", "pool.or.null", PoolBlock.LOCK)}
  %pair = cmpxchg ptr %lock.at, i32 0, i32 1 acquire monotonic
  %mine = extractvalue {{i32, i1}} %pair, 1
  %locked = select i1 %mine, ptr %pool.or.null, ptr null
  br i1 %mine, label %place, label %begin
place:                                          ; 20 ns, unless the caller has moved
  {at("may.at", "pool.or.null", PoolBlock.MAY_WAKE)}
  {load("brief", "i64", "program", ProgramBlock.BRIEF)}
  %long.run = icmp eq i64 %brief, 0
  br i1 %long.run, label %willing, label %brief.run
brief.run:                                      ; after a pause it is over before workers are up
  %now = call i64 @clock(ptr %program)
  {load("last", "i64", "pool.or.null", PoolBlock.LAST_END)}
  %gap = sub i64 %now, %last
  %soon = icmp ult i64 %gap, {BACK_TO_BACK_NS}
  br i1 %soon, label %willing, label %unwilling
willing:
  store i32 1, ptr %may.at
  call void @place(ptr %locked)
  br label %begin
unwilling:
  store i32 0, ptr %may.at
  br label %begin
begin:
  %pool = phi ptr [null, %entry], [%locked, %lock], [%locked, %willing], [%locked, %unwilling]
  %alone = icmp eq ptr %pool, null
  br label %head
head:
  %i = phi i64 [%start, %begin], [%i.next, %go.on], [%target, %taken], [%i.past, %past]
  %spent = phi i64 [0, %begin], [%spent.next, %go.on], [%spent.jump, %taken], [%spent.jump, %past]
  %more = icmp ult i64 %i, %n
  br i1 %more, label %check, label %leave
check:
  %stop = load atomic i32, ptr %stop.at monotonic, align 4
  %halt = icmp ne i32 %stop, 0
  br i1 %halt, label %leave, label %slice.check
slice.check:
  %spent.all = icmp ugt i64 %spent, %slice
  br i1 %spent.all, label %leave, label %body
body:
  %offset = shl i64 %i, 5
  %step = getelementptr i8, ptr %steps, i64 %offset
  {load("chunks", "i32", "step", 24)}
  {load("cost", "i32", "step", 28)}
  %cost64 = zext i32 %cost to i64
  %spent.next = add i64 %spent, %cost64
  %jumps = icmp eq i32 %chunks, 0
  br i1 %jumps, label %jump, label %kernel.step
jump:                                           ; counts 100 ns: no loop escapes its time slice
  %spent.jump = add i64 %spent.next, 1
  {load("flag", "ptr", "step", 8)}
  {load("target", "i64", "step", 16)}
  %always = icmp eq ptr %flag, null
  br i1 %always, label %taken, label %test
test:
  %byte = load i8, ptr %flag
  %false = icmp eq i8 %byte, 0
  br i1 %false, label %taken, label %past
taken:
  br label %head
past:
  %i.past = add i64 %i, 1
  br label %head
kernel.step:
  br i1 %timed, label %clock.before, label %split
clock.before:
  %t0 = call i64 @clock(ptr %program)
  br label %split
split:
  %t0.or.0 = phi i64 [0, %kernel.step], [%t0, %clock.before]
  %serial = icmp ult i32 %chunks, 2
  %one = or i1 %serial, %alone
  br i1 %one, label %single, label %many
single:
  %kernel = load ptr, ptr %step
  {load("args", "ptr", "step", 8)}
  {load("items", "i64", "step", 16)}
  call void %kernel(ptr %args, i64 0, i64 %items, i64 0)
  br label %ran
many:
  call void @parallel(ptr %pool, ptr %step, i32 %chunks)
  br label %ran
ran:
  br i1 %timed, label %clock.after, label %judge
clock.after:
  %t1 = call i64 @clock(ptr %program)
  %ns = sub i64 %t1, %t0.or.0
  %time.at = getelementptr i64, ptr %times, i64 %i
  %time.before = load i64, ptr %time.at         ; a step in a loop runs again
  %time.sum = add i64 %time.before, %ns
  store i64 %time.sum, ptr %time.at
  br label %judge
judge:
  %word = load i64, ptr %status
  %refused = icmp ne i64 %word, 0
  br i1 %refused, label %leave, label %go.on
go.on:
  %i.next = add i64 %i, 1
  br label %head
leave:
  %result = phi i64 [%i, %head], [-{CANCELLED}, %check], [%i, %slice.check], [-{REFUSED}, %judge]
  {at("ended.at", "program", ProgramBlock.ENDED_AT)}
  store i64 %i, ptr %ended.at
  br i1 %alone, label %out, label %unlock
unlock:
  %over = call i64 @clock(ptr %program)
  {at("last.end.at", "pool", PoolBlock.LAST_END)}
  store i64 %over, ptr %last.end.at
  {at("unlock.at", "pool", PoolBlock.LOCK)}
  store atomic i32 0, ptr %unlock.at release, align 4
  br label %out
out:
  ret i64 %result
}}
"""

# takes the program for this thread: 0, or why not. A word that a thread of the parent process
# left when this process was forked counts as free.
_TAKE = f"""
define internal i64 @take(ptr %program) $ATTRIBUTES {{
entry:
  {load("pool", "ptr", "program", ProgramBlock.POOL)}
  %pooled = icmp ne ptr %pool, null
  br i1 %pooled, label %ask, label %free
ask:
  {load("started", "i32", "pool", PoolBlock.STARTED)}
  %ready = icmp ne i32 %started, 0
  br i1 %ready, label %free, label %cold
cold:                                           ; workers take a millisecond to start
  {load("brief", "i64", "program", ProgramBlock.BRIEF)}
  {load("runs", "i64", "program", ProgramBlock.COLD_RUNS)}
  %runs.next = add i64 %runs, 1
  store i64 %runs.next, ptr %runs.at
  %short = icmp ne i64 %brief, 0
  %few = icmp ult i64 %runs, {COLD_RUNS}
  %without = and i1 %short, %few
  br i1 %without, label %free, label %wanted
wanted:
  ret i64 {NOT_STARTED}
free:
  {load("host", "ptr", "program", ProgramBlock.HOST)}
  {load("forks", "i64", "host", HostBlock.FORKS)}
  {at("busy.at", "program", ProgramBlock.BUSY)}
  %old = load atomic i64, ptr %busy.at monotonic, align 8
  %taken = icmp eq i64 %old, %forks
  br i1 %taken, label %busy, label %try
try:
  %pair = cmpxchg ptr %busy.at, i64 %old, i64 %forks acquire monotonic
  %mine = extractvalue {{i64, i1}} %pair, 1
  br i1 %mine, label %got, label %busy
busy:
  ret i64 {BUSY}
got:
  {load("status", "ptr", "program", ProgramBlock.STATUS)}
  store i64 0, ptr %status
  {at("stop.at", "program", ProgramBlock.STOP)}
  store atomic i32 0, ptr %stop.at monotonic, align 4
  ret i64 0
}}
"""

# one run, called with the GIL held. Between time slices Python looks for signals.
_ENTER = f"""
define internal i64 @enter(ptr %program) $ATTRIBUTES {{
entry:
  %refusal = call i64 @take(ptr %program)
  %ok = icmp eq i64 %refusal, 0
  br i1 %ok, label %begin, label %no
no:
  ret i64 %refusal
begin:
  {load("n", "i64", "program", ProgramBlock.COUNT)}
  {load("host", "ptr", "program", ProgramBlock.HOST)}
  {load("save", "ptr", "host", HostBlock.SAVE_THREAD)}
  {load("restore", "ptr", "host", HostBlock.RESTORE_THREAD)}
  {load("signals", "ptr", "host", HostBlock.CHECK_SIGNALS)}
  {load("held", "i64", "program", ProgramBlock.HELD)}
  %keep = icmp ne i64 %held, 0
  br i1 %keep, label %short, label %long
short:
  %r0 = call i64 @steps(ptr %program, i64 0, ptr null)
  br label %judge
long:
  %i = phi i64 [0, %begin], [%r1, %quiet]
  %state = call ptr %save()
  %r1 = call i64 @steps(ptr %program, i64 %i, ptr null)
  call void %restore(ptr %state)
  %later = icmp ult i64 %r1, %n
  br i1 %later, label %look, label %judge
look:
  %raised = call i32 %signals()
  %quiet.now = icmp eq i32 %raised, 0
  br i1 %quiet.now, label %quiet, label %end
quiet:
  br label %long
judge:
  %r = phi i64 [%r0, %short], [%r1, %long]
  %failed = icmp slt i64 %r, 0
  %code = sub i64 0, %r
  %answer = select i1 %failed, i64 %code, i64 0
  br label %end
end:
  %result = phi i64 [%answer, %judge], [-1, %look]
  {at("busy.at", "program", ProgramBlock.BUSY)}
  store atomic i64 0, ptr %busy.at release, align 8
  ret i64 %result
}}
"""

# METH_NOARGS function whose self is a PyCapsule around a program
_PY_RUN = f"""
define internal ptr @py_run(ptr %self, ptr %unused) $ATTRIBUTES {{
entry:
  {at("capsule", "self", "$HEAD")}
  %program = load ptr, ptr %capsule
  %r = call i64 @enter(ptr %program)
  %raised = icmp slt i64 %r, 0
  br i1 %raised, label %error, label %out
error:
  ret ptr null
out:
  {load("host", "ptr", "program", ProgramBlock.HOST)}
  {load("to.long", "ptr", "host", HostBlock.LONG_FROM_INT64)}
  %object = call ptr %to.long(i64 %r)
  ret ptr %object
}}
"""

# a run with the time of every step; no slices, the GIL is the caller's affair
_PROFILE = f"""
define internal i64 @profile(ptr %program, ptr %times) $ATTRIBUTES {{
entry:
  %refusal = call i64 @take(ptr %program)
  %ok = icmp eq i64 %refusal, 0
  br i1 %ok, label %begin, label %no
no:
  ret i64 %refusal
begin:
  {load("n", "i64", "program", ProgramBlock.COUNT)}
  br label %more
more:
  %i = phi i64 [0, %begin], [%r, %more]
  %r = call i64 @steps(ptr %program, i64 %i, ptr %times)
  %later = icmp ult i64 %r, %n
  br i1 %later, label %more, label %end
end:
  {at("busy.at", "program", ProgramBlock.BUSY)}
  store atomic i64 0, ptr %busy.at release, align 8
  %failed = icmp slt i64 %r, 0
  %code = sub i64 0, %r
  %answer = select i1 %failed, i64 %code, i64 0
  ret i64 %answer
}}
"""


def emit(name: str, isa: Isa, *, head: int) -> str:
    """IR text of the run loop: `name` writes the addresses of FUNCTIONS into its args block.

    `head` is object.__basicsize__, where a PyCapsule keeps its pointer.
    """
    if isa.arch not in _SYSCALLS:
        raise CodegenError(f"no run loop for {isa.arch}")
    futex, gettid, setaffinity = _SYSCALLS[isa.arch]
    declaration, pause = _PAUSE[isa.arch]
    words = {
        "$PAUSE_DECLARATION": declaration,
        "$PAUSE": pause,
        "$ATTRIBUTES": 'nounwind "no-builtins" "no-stack-arg-probe"',
        "$FUTEX": str(futex),
        "$GETTID": str(gettid),
        "$SETAFFINITY": str(setaffinity),
        "$HEAD": str(head),
    }
    text = "".join((workers.TEXT, _CLOCK, _STEPS, _TAKE, _ENTER, _PY_RUN, _PROFILE))
    for word, value in words.items():
        text = text.replace(word, value)
    stores = "".join(
        f"  {at(function, 'out', 8 * i)}\n  store ptr @{function}, ptr %{function}\n"
        for i, function in enumerate(FUNCTIONS)
    )
    head_line = f"define void @{name}(ptr %out, i64 %begin, i64 %end, i64 %worker.number)"
    return f"{text}\n{head_line} {words['$ATTRIBUTES']} {{\n{stores}  ret void\n}}\n"
