//! A thread that gives way to all others.

/// Has the calling thread run only while its CPU has next to nothing else to do (`SCHED_IDLE` of sched(7)): if only
/// nice, it would finish its slice, of milliseconds, before a shard that wakes there. If refused, all stays as it was.
pub fn give_way() {
    // SAFETY: sched_setscheduler(2) reads the parameters that it is passed; thread 0 is the calling one.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &libc::sched_param { sched_priority: 0 }) };
}
