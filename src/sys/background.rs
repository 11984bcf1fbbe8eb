//! A thread that gives way to all others.

/// Gives the calling thread the least share of a busy CPU (nice 19: 15 parts to a shard's 1,024, sched(7)). Where the
/// system refuses that, it goes on as it was.
pub fn give_way() {
    // SAFETY: setpriority(2) takes three numbers; `who` 0 is the calling thread on Linux.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
}
