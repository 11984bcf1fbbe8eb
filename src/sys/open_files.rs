//! How many descriptors this process may have open (`getrlimit(2)`).

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one, which needs no privilege, and returns it. A login shell's soft limit is 1,024
/// for the sake of programs that call `select(2)`; this one does not.
pub fn raise_limit() -> io::Result<u64> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum.unwrap_or(u64::MAX))
}

/// How many are open now, those that were inherited included; 0 where `/proc` does not tell.
pub fn count() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_the_hard_one_and_open_files_are_counted() {
        let limit = raise_limit().unwrap();
        let said = fs::read_to_string("/proc/self/limits").unwrap();
        let line = said.lines().find(|line| line.starts_with("Max open files")).unwrap();
        assert!(line.split_ascii_whitespace().skip(3).take(2).all(|word| word == limit.to_string()), "{line}");
        let files: Vec<_> = (0..100).map(|_| fs::File::open("/proc/self/limits").unwrap()).collect();
        assert!(count() > files.len() as u64 && count() <= limit);
    }
}
