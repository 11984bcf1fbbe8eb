//! The listening sockets: one a shard on the same address, with the options that connections inherit.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use procfs::net::{TcpState, tcp, tcp6};
use procfs::process::{FDTarget, Process, all_processes};
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::{BACKLOG, SEND_STALL_MS_MAX, UNSENT_BYTES_MAX};

/// Binds `count` listeners to one address; port 0 takes a free one, the same for all. `pace_bytes_per_s` is the most that
/// one connection sends in a second.
///
/// The address is first bound once without `SO_REUSEPORT`: with it, two servers of one user would share a port without
/// a word, and each would answer half of the requests.
/// Errors, in words: the address is taken, and by whom where `/proc` tells, or not ours.
pub fn bind(address: SocketAddr, count: usize, pace_bytes_per_s: Option<u32>) -> Result<Vec<TcpListener>, String> {
    let named = |error: io::Error| {
        let holder = if error.kind() == io::ErrorKind::AddrInUse { holder(address.port()) } else { None };
        let held = |by| format!("; it is held by {by}: stop that, or choose another address");
        format!("cannot listen on {address}: {error}{}", holder.map_or_else(String::new, held))
    };
    // A port that the kernel chooses is nobody's, and stays so while this one is bound.
    let is_chosen = address.port() == 0;
    let listen = || socket(address, is_chosen).and_then(|first| first.listen(1).map(|()| first));
    // A process that was killed has its port a moment longer, until the kernel has let go of its ring.
    let mut tries = (0..PORT_TRIES).map(|_| listen().inspect_err(|_| thread::sleep(PORT_PAUSE)));
    let first = tries.find(Result::is_ok).unwrap_or_else(listen).map_err(named)?;
    let address = first.local_addr().ok().and_then(|bound| bound.as_socket()).unwrap_or(address);
    let _chosen = is_chosen.then_some(first);
    (0..count)
        .map(|_| {
            let socket = socket(address, true)?;
            if let Some(rate) = pace_bytes_per_s {
                // socket(7): the kernel spaces out segments itself, so that one long answer is no burst.
                set(&socket, libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, rate)?;
            }
            socket.listen(BACKLOG as i32)?;
            Ok(socket.into())
        })
        .collect::<io::Result<_>>()
        .map_err(named)
}

const PORT_TRIES: u32 = 10;
const PORT_PAUSE: Duration = Duration::from_millis(20);

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec().nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_tcp_nodelay(true)?;
    // tcp(7): a connection comes with its first bytes, which saves up to a third of the CPU of new connections.
    set(&socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 1)?;
    // A reader who does not read keeps no more than this of ours in the kernel.
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    // tcp(7), `TCP_USER_TIMEOUT`: who takes nothing at all for so long is gone, with all that the kernel keeps for it.
    socket.set_tcp_user_timeout(Some(Duration::from_millis(SEND_STALL_MS_MAX)))?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Sets an option whose value is an int (setsockopt(2)).
fn set(socket: &Socket, level: libc::c_int, option: libc::c_int, value: u32) -> io::Result<()> {
    let (pointer, length) = ((&raw const value).cast(), size_of_val(&value) as libc::socklen_t);
    // SAFETY: the descriptor is open for the whole call, and the option's value is one int that outlives it.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, pointer, length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Which process listens on a port, as far as `/proc` lets us see.
fn holder(port: u16) -> Option<String> {
    let mut sockets = [tcp(), tcp6()].into_iter().flatten().flatten();
    let socket = sockets.find(|socket| socket.state == TcpState::Listen && socket.local_address.port() == port)?;
    let holds = |process: &Process| {
        let mut descriptors = process.fd().into_iter().flatten().flatten();
        descriptors.any(|descriptor| descriptor.target == FDTarget::Socket(socket.inode))
    };
    let process = all_processes().ok()?.flatten().find(holds)?;
    let command = process.stat().map_or_else(|_| String::new(), |stat| stat.comm);
    Some(format!("{command} (pid {})", process.pid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named_with_its_holder() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let error = bind(address, 2, None).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
    }

    #[test]
    fn port_zero_gives_nobody_the_port_of_another() {
        let bind_many = || (0..200).map(|_| bind("127.0.0.1:0".parse().unwrap(), 2, None).unwrap()).collect::<Vec<_>>();
        let all: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(bind_many)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let port = |listeners: &Vec<TcpListener>| listeners[0].local_addr().unwrap().port();
        assert_eq!(all.iter().map(port).collect::<std::collections::HashSet<_>>().len(), 800);
    }

    #[test]
    fn port_zero_gives_all_listeners_the_same_free_port() {
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 3, None).unwrap();
        let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    }
}
