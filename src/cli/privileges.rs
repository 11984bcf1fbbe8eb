//! What the process may do, and what others may see of it.

use std::ffi::CString;

use nix::unistd::{Uid, User, initgroups, setgid, setuid};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::set_no_new_privs;

use super::{Ended, Fatal};
use crate::config::Config;

/// Whom `serve` is to become, if anyone: an error where there is no such user, it is root, or this process cannot.
pub(super) fn user(config: &Config) -> Result<Option<User>, Ended> {
    let Some(name) = &config.user else { return Ok(None) };
    let refused = |reason: &str| (Fatal::Configuration, format!("{}: {name}: {reason}", config.place("user")));
    let user = User::from_name(name).map_err(|error| refused(error.desc()))?;
    match user.ok_or_else(|| refused("there is no such user"))? {
        user if user.uid.is_root() => Err(refused("is root: name a user who may do less")),
        user if !Uid::effective().is_root() && Uid::effective() != user.uid => {
            Err(refused("only root can become another user"))
        }
        user => Ok(Some(user)),
    }
}

/// Becomes that user for good: without a capability (`capabilities(7)`: the kernel takes them from who leaves user 0), and
/// without a way to get one back (`PR_SET_NO_NEW_PRIVS`). All ports are bound by then, the limits raised, and no thread
/// has been started.
pub(super) fn leave_root(config: &Config) -> Result<(), Ended> {
    let Some(user) = user(config)? else { return Ok(()) };
    if Uid::effective().is_root() {
        // Pages sent without a copy are locked in memory, for which root alone has no limit; unraised, they are copied.
        let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
        let account = CString::new(user.name.as_bytes()).expect("a name of the system's has no zero");
        let changed = initgroups(&account, user.gid).and_then(|()| setgid(user.gid)).and_then(|()| setuid(user.uid));
        changed.map_err(Fatal::System.at(format_args!("cannot become {}", user.name)))?;
    }
    set_no_new_privs(true).map_err(Fatal::System.at("no new privileges"))
}

/// Keeps the keys in memory from core dumps and from other processes of its user (`prctl(2)`, `PR_SET_DUMPABLE`).
pub(super) fn hide_memory() -> Result<(), Ended> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let hidden = setrlimit(Resource::Core, none).and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
    hidden.map_err(Fatal::System.at("core dumps"))
}
