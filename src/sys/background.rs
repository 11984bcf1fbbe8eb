//! A thread that gives way to all others.

/// Has the calling thread run only while its CPU has nothing else to do, or next to nothing (`SCHED_IDLE` of sched(7)).
/// A thread that was only nice would still finish its slice, of milliseconds, before a shard that wakes there. Where the
/// system refuses that, it goes on as it was.
pub fn give_way() {
    // SAFETY: sched_setscheduler(2) reads the parameters that it is passed; thread 0 is the calling one.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &libc::sched_param { sched_priority: 0 }) };
}
