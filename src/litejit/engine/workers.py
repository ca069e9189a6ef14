"""The worker threads of the run loop, as LLVM IR text: tickets, chunks, sleeping and waking.

A parallel step is published as one 64-bit ticket: low half a sequence number (the futex word
too), high half a mask of the chunks that are claimed (bits past the last chunk are born set).
A thread claims chunks by compare-and-swap, from its own part of the step on (thread k of n from
k/n of the chunks), so that rows stay in one core's cache from step to step, then any others. It
takes a run of free chunks' 2n-th part at once, one kernel call: a line that both cores write
moves between them in 0.1 us. The caller waits for *chunks that are done*, never for *threads that
arrive*: a worker that sleeps, is late, or does not exist (after a fork) costs nothing, since the
caller claims what nobody took. Borders of chunks depend on the step alone.

Why no wake-up is lost: a worker counts itself as sleeping, then sleeps only if the ticket is
still the one it saw; the caller publishes, then reads the count. Both are sequentially
consistent, so that one of the two sees the other. The word WAKING spares a second wake-up while
the first is under way; a worker clears it when it is up, and after it counted itself, so that
every ticket that it does not see finds the word cleared.

A step is 32 bytes: kernel | args | items i64 | chunks i32 (1: serial) | cost i32 (100 ns units).
"""

from __future__ import annotations

from litejit.engine.layout import HostBlock, PoolBlock


def at(name: str, base: str, offset: int | str) -> str:
    """An instruction: %name = address of byte `offset` of block %base."""
    return f"%{name} = getelementptr i8, ptr %{base}, i64 {offset}"


def load(name: str, type: str, base: str, offset: int) -> str:
    """Two instructions: %name = the `type` at byte `offset` of block %base."""
    return f"{at(name + '.at', base, offset)}\n  %{name} = load {type}, ptr %{name}.at"


_DECLARATIONS = """
$PAUSE_DECLARATION
declare i32 @llvm.cttz.i32(i32, i1)
declare i32 @llvm.fshr.i32(i32, i32, i32)
declare i32 @llvm.umax.i32(i32, i32)
"""

_FUTEX = f"""
define internal void @futex(ptr %pool, ptr %word, i64 %op, i32 %value) noinline $ATTRIBUTES {{
  {load("host", "ptr", "pool", PoolBlock.HOST)}
  {load("syscall", "ptr", "host", HostBlock.SYSCALL)}
  %v = zext i32 %value to i64
  %r = call i64 (i64, ...) %syscall(
    i64 $FUTEX, ptr %word, i64 %op, i64 %v, ptr null, ptr null, i64 0)
  ret void
}}
"""

# runs chunks [c, c + k) of n of a step, as thread `me`; `claimed` is c | k << 8
_CHUNKS = f"""
define internal void @chunks(ptr %step, i32 %claimed, i32 %n, i32 %me) $ATTRIBUTES {{
  %kernel = load ptr, ptr %step
  {load("args", "ptr", "step", 8)}
  {load("items", "i64", "step", 16)}
  %both = zext i32 %claimed to i64
  %c64 = and i64 %both, 255
  %k64 = lshr i64 %both, 8
  %n64 = zext i32 %n to i64
  %worker = zext i32 %me to i64
  %next = add i64 %c64, %k64
  %b = mul i64 %items, %c64
  %begin = udiv i64 %b, %n64
  %e = mul i64 %items, %next
  %end = udiv i64 %e, %n64
  tail call void %kernel(ptr %args, i64 %begin, i64 %end, i64 %worker)
  ret void
}}
"""

# how many chunks of `run` free ones a thread takes at once
_PART = f"""
define internal i32 @part(ptr %pool, i32 %run) $ATTRIBUTES {{
  {load("workers", "i32", "pool", PoolBlock.WORKERS)}
  %team = add i32 %workers, 1
  %twice = shl i32 %team, 1
  %part = udiv i32 %run, %twice
  %some = call i32 @llvm.umax.i32(i32 %part, i32 1)
  ret i32 %some
}}
"""

# claims chunks of the published step, beginning the search at `me`: c | k << 8, or -1 for none
_CLAIM = """
define internal i32 @claim(ptr %pool, i32 %me) $ATTRIBUTES {
entry:
  br label %again
again:
  %ticket = load atomic i64, ptr %pool acquire, align 8
  %high = lshr i64 %ticket, 32
  %mask = trunc i64 %high to i32
  %full = icmp eq i32 %mask, -1
  br i1 %full, label %none, label %try
try:
  %free = xor i32 %mask, -1
  %turned = call i32 @llvm.fshr.i32(i32 %free, i32 %free, i32 %me)
  %first = call i32 @llvm.cttz.i32(i32 %turned, i1 true)
  %sum = add i32 %first, %me
  %c = and i32 %sum, 31
  %ahead = lshr i32 %free, %c
  %others = xor i32 %ahead, -1
  %run = call i32 @llvm.cttz.i32(i32 %others, i1 false)
  %k = call i32 @part(ptr %pool, i32 %run)
  %k64 = zext i32 %k to i64
  %zeros = shl i64 -1, %k64
  %ones = xor i64 %zeros, -1
  %shift = add i32 %c, 32
  %shift64 = zext i32 %shift to i64
  %bits = shl i64 %ones, %shift64
  %new = or i64 %ticket, %bits
  %pair = cmpxchg ptr %pool, i64 %ticket, i64 %new acq_rel acquire
  %ok = extractvalue {i64, i1} %pair, 1
  br i1 %ok, label %got, label %again
got:
  %count = shl i32 %k, 8
  %claimed = or i32 %c, %count
  ret i32 %claimed
none:
  ret i32 -1
}
"""

# counts chunks as done; who does the last one wakes the caller if it sleeps
_FINISH = f"""
define internal void @finish(ptr %pool, i32 %claimed, i32 %n) $ATTRIBUTES {{
entry:
  {at("done.at", "pool", PoolBlock.DONE)}
  %k = lshr i32 %claimed, 8
  %old = atomicrmw add ptr %done.at, i32 %k seq_cst
  %now = add i32 %old, %k
  %last = icmp eq i32 %now, %n
  br i1 %last, label %look, label %out
look:
  {at("sleeps.at", "pool", PoolBlock.CALLER_SLEEPS)}
  %sleeps = load atomic i32, ptr %sleeps.at seq_cst, align 4
  %asleep = icmp ne i32 %sleeps, 0
  br i1 %asleep, label %wake, label %out
wake:
  call void @futex(ptr %pool, ptr %done.at, i64 129, i32 1)
  br label %out
out:
  ret void
}}
"""

# when a run begins and before workers are woken: bars them from the CPU that the caller runs on.
# In a virtual machine an idle CPU counts as taken, and Linux puts the woken thread behind its
# waker; and a caller that is moved onto a worker's CPU would share it for the rest of its runs.
_PLACE = f"""
define internal void @place(ptr %pool) noinline $ATTRIBUTES {{
entry:
  {load("host", "ptr", "pool", PoolBlock.HOST)}
  {load("getcpu", "ptr", "host", HostBlock.GETCPU)}
  %known = icmp ne ptr %getcpu, null
  br i1 %known, label %ask, label %out
ask:
  %cpu = call i32 %getcpu()
  {load("avoided", "i32", "pool", PoolBlock.AVOIDED)}
  {load("cpus", "i32", "pool", PoolBlock.CPUS)}
  %same = icmp eq i32 %cpu, %avoided
  %new = icmp uge i32 %cpu, %cpus        ; more than the masks know of, or an error (-1)
  %leave = or i1 %same, %new
  br i1 %leave, label %out, label %move
move:
  store atomic i32 %cpu, ptr %avoided.at seq_cst, align 4
  {load("masks", "ptr", "pool", PoolBlock.MASKS)}
  %row = mul i32 %cpu, 128
  %row64 = zext i32 %row to i64
  %mask = getelementptr i8, ptr %masks, i64 %row64
  {load("workers", "i32", "pool", PoolBlock.WORKERS)}
  {load("syscall", "ptr", "host", HostBlock.SYSCALL)}
  {at("tids", "pool", PoolBlock.TIDS)}
  br label %loop
loop:
  %i = phi i32 [0, %move], [%i.next, %next]
  %more = icmp ult i32 %i, %workers
  br i1 %more, label %one, label %out
one:
  %i64 = zext i32 %i to i64
  %tid.at = getelementptr i32, ptr %tids, i64 %i64
  %tid = load atomic i32, ptr %tid.at seq_cst, align 4
  %runs = icmp ne i32 %tid, 0
  br i1 %runs, label %set, label %next
set:
  %tid64 = zext i32 %tid to i64
  %r = call i64 (i64, ...) %syscall(i64 $SETAFFINITY, i64 %tid64, i64 128, ptr %mask)
  br label %next
next:
  %i.next = add i32 %i, 1
  br label %loop
out:
  ret void
}}
"""

# start routine of a worker: arg points to its pool and its number (from 1)
_WORKER = f"""
define internal ptr @worker(ptr %arg) $ATTRIBUTES {{
entry:
  %pool = load ptr, ptr %arg
  {load("me", "i32", "arg", 8)}
  {load("host", "ptr", "pool", PoolBlock.HOST)}
  {load("syscall", "ptr", "host", HostBlock.SYSCALL)}
  {load("limit", "i32", "pool", PoolBlock.SPINS)}
  {at("sleepers.at", "pool", PoolBlock.SLEEPERS)}
  {at("waking.at", "pool", PoolBlock.WAKING)}
  {at("step.at", "pool", PoolBlock.STEP)}
  {at("chunks.at", "pool", PoolBlock.CHUNKS)}
  {load("workers", "i32", "pool", PoolBlock.WORKERS)}
  %team = add i32 %workers, 1
  {at("tids", "pool", PoolBlock.TIDS - 4)}
  %me64 = zext i32 %me to i64
  %tid.at = getelementptr i32, ptr %tids, i64 %me64
  %tid64 = call i64 (i64, ...) %syscall(i64 $GETTID)
  %tid = trunc i64 %tid64 to i32
  store atomic i32 %tid, ptr %tid.at seq_cst, align 4
  {at("avoided.at", "pool", PoolBlock.AVOIDED)}
  %avoided = load atomic i32, ptr %avoided.at seq_cst, align 4
  {load("cpus", "i32", "pool", PoolBlock.CPUS)}
  {load("masks", "ptr", "pool", PoolBlock.MASKS)}
  %known = icmp ult i32 %avoided, %cpus
  br i1 %known, label %leave, label %top
leave:                                          ; the CPU that the caller was on at the start
  %row = mul i32 %avoided, 128
  %row64 = zext i32 %row to i64
  %mask = getelementptr i8, ptr %masks, i64 %row64
  %r = call i64 (i64, ...) %syscall(i64 $SETAFFINITY, i64 %tid64, i64 128, ptr %mask)
  br label %top
top:
  %spins = phi i32 [0, %entry], [0, %leave], [0, %work], [%spins.next, %spin], [0, %sleep]
  %ticket = load atomic i64, ptr %pool acquire, align 8
  %sequence = trunc i64 %ticket to i32
  %count = load atomic i32, ptr %chunks.at monotonic, align 4
  %turn = mul i32 %count, %me
  %quotient = udiv i32 %turn, %team
  %first = and i32 %quotient, 31
  %c = call i32 @claim(ptr %pool, i32 %first)
  %has = icmp sge i32 %c, 0
  br i1 %has, label %work, label %idle
work:
  %step = load ptr, ptr %step.at
  %n = load i32, ptr %chunks.at
  call void @chunks(ptr %step, i32 %c, i32 %n, i32 %me)
  call void @finish(ptr %pool, i32 %c, i32 %n)
  br label %top
idle:
  %spins.next = add i32 %spins, 1
  %more = icmp ult i32 %spins.next, %limit
  br i1 %more, label %spin, label %sleep
spin:
  $PAUSE
  br label %top
sleep:
  %x = atomicrmw add ptr %sleepers.at, i32 1 seq_cst
  store atomic i32 0, ptr %waking.at seq_cst, align 4
  call void @futex(ptr %pool, ptr %pool, i64 128, i32 %sequence)
  store atomic i32 0, ptr %waking.at seq_cst, align 4
  %y = atomicrmw sub ptr %sleepers.at, i32 1 seq_cst
  br label %top
}}
"""

# the caller's part of a parallel step
_PUBLISH = f"""
define internal i32 @publish(ptr %pool, ptr %step, i32 %n) $ATTRIBUTES {{
entry:
  {at("step.at", "pool", PoolBlock.STEP)}
  store ptr %step, ptr %step.at
  {at("chunks.at", "pool", PoolBlock.CHUNKS)}
  store atomic i32 %n, ptr %chunks.at monotonic, align 4
  {at("done.at", "pool", PoolBlock.DONE)}
  store atomic i32 0, ptr %done.at monotonic, align 4
  %old = load atomic i64, ptr %pool monotonic, align 8
  %sequence = trunc i64 %old to i32
  %next = add i32 %sequence, 1
  %low = zext i32 %next to i64
  %n64 = zext i32 %n to i64
  %past = shl i64 -1, %n64
  %k = call i32 @part(ptr %pool, i32 %n)        ; the first chunks are the caller's
  %k64 = zext i32 %k to i64
  %zeros = shl i64 -1, %k64
  %own = xor i64 %zeros, -1
  %born = or i64 %past, %own
  %high = shl i64 %born, 32
  %ticket = or i64 %high, %low
  %was = atomicrmw xchg ptr %pool, i64 %ticket seq_cst
  {at("sleepers.at", "pool", PoolBlock.SLEEPERS)}
  %sleepers = load atomic i32, ptr %sleepers.at seq_cst, align 4
  %any = icmp ne i32 %sleepers, 0
  br i1 %any, label %judge, label %out
judge:
  {at("waking.at", "pool", PoolBlock.WAKING)}
  %waking = load atomic i32, ptr %waking.at seq_cst, align 4
  {load("may", "i32", "pool", PoolBlock.MAY_WAKE)}
  %not.waking = icmp eq i32 %waking, 0
  %allowed = icmp ne i32 %may, 0
  %do = and i1 %not.waking, %allowed
  br i1 %do, label %wake, label %out
wake:                                           ; once, until a worker is up or lies down again
  store atomic i32 1, ptr %waking.at seq_cst, align 4
  call void @place(ptr %pool)
  %helpers = sub i32 %n, 1
  call void @futex(ptr %pool, ptr %pool, i64 129, i32 %helpers)
  br label %out
out:
  %claimed = shl i32 %k, 8
  ret i32 %claimed
}}
"""

_PARALLEL = f"""
define internal void @parallel(ptr %pool, ptr %step, i32 %n) noinline $ATTRIBUTES {{
entry:
  %first = call i32 @publish(ptr %pool, ptr %step, i32 %n)
  {at("done.at", "pool", PoolBlock.DONE)}
  {at("sleeps.at", "pool", PoolBlock.CALLER_SLEEPS)}
  {load("limit", "i32", "pool", PoolBlock.SPINS)}
  br label %work
work:
  %c = phi i32 [%first, %entry], [%claimed, %work]
  call void @chunks(ptr %step, i32 %c, i32 %n, i32 0)
  call void @finish(ptr %pool, i32 %c, i32 %n)
  %claimed = call i32 @claim(ptr %pool, i32 0)
  %has = icmp sge i32 %claimed, 0
  br i1 %has, label %work, label %wait
wait:
  %spins = phi i32 [0, %work], [%spins.next, %spin], [0, %woken]
  %done = load atomic i32, ptr %done.at acquire, align 4
  %all = icmp eq i32 %done, %n
  br i1 %all, label %out, label %busy
busy:
  %spins.next = add i32 %spins, 1
  %more = icmp ult i32 %spins.next, %limit
  br i1 %more, label %spin, label %sleep
spin:
  $PAUSE
  br label %wait
sleep:
  %o1 = atomicrmw xchg ptr %sleeps.at, i32 1 seq_cst
  %seen = load atomic i32, ptr %done.at seq_cst, align 4
  %late = icmp eq i32 %seen, %n
  br i1 %late, label %woken, label %really
really:
  call void @futex(ptr %pool, ptr %done.at, i64 128, i32 %seen)
  br label %woken
woken:
  %o2 = atomicrmw xchg ptr %sleeps.at, i32 0 seq_cst
  br label %wait
out:
  ret void
}}
"""

TEXT = "".join(
    (_DECLARATIONS, _FUTEX, _CHUNKS, _PART, _CLAIM, _FINISH, _PLACE, _WORKER, _PUBLISH, _PARALLEL)
)
