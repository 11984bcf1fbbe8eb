//! A rolling restart: `serve --takeover` takes all from the process that serves a data folder, which serves on meanwhile.
//!
//! Both speak over a Unix socket in the data folder, that no other user can reach, and look who is at its other end. The
//! old process says what it has ([`Hello`]) and folds nothing from then on; the new one checks that, loads all there
//! is, and asks for the rest with a byte. Until then either may give up, and the old one serves on as if nothing had been.
//! Then the old one takes no more writes, ends the journal and [`give`]s; it goes on with all that is not a write until a
//! second byte says that the new one serves. If that does not come it ends, too: it has let go of the journal, and never
//! takes it up again.

use std::convert::Infallible;
use std::fmt::Display;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, BufRead as _, BufReader, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::cmsg_space;
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, UCred,
    recvmsg, sendmsg, sockopt::socket_peercred,
};
use rustix::process::{Resource, geteuid, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::fold::Pause;
use super::{Ended, Fatal};
use crate::config::Config;
use crate::driver::Taken;
use crate::http::tls::SECRET_BYTES;
use crate::limits::{TAKEOVER_LOAD_MS_MAX, TAKEOVER_STEP_MS_MAX, TICKET_KEYS, USED_ASSERTIONS_MAX};
use crate::registry::DataFolder;
use crate::service::used_assertions::UsedAssertions;

/// Of what is spoken here; raised with each change of it.
const VERSION: u32 = 2;

/// What the old process says first, as one line of JSON.
#[derive(Serialize, Deserialize)]
pub(super) struct Hello {
    version: u32,
    shards: usize,
    /// The public one, the admin's, and the one that redirects if there is one.
    addresses: Vec<SocketAddr>,
    secured: [bool; 2],
}

impl Hello {
    pub(super) fn new(config: &Config, listeners: &[SocketAddr]) -> Hello {
        let (shards, secured) = (config.shards, secured(config));
        Hello { version: VERSION, shards, addresses: listeners[shards - 1..].to_vec(), secured }
    }

    /// Whether a process with this configuration can go on where the other one ends.
    fn check(&self, config: &Config, place: impl Display) -> Result<(), Ended> {
        let own = [Some(config.listen_address), Some(config.admin_address), config.redirect_address];
        let own: Vec<SocketAddr> = own.into_iter().flatten().collect();
        let same =
            |(own, other): (&SocketAddr, &SocketAddr)| own == other || (own.port() == 0 && own.ip() == other.ip());
        let unless = |holds, wrong: &dyn Display| {
            Fatal::Configuration.unless(holds, &place, format_args!("{wrong}: restart without --takeover"))
        };
        unless(self.version == VERSION, &"of a version that cannot be taken over from")?;
        let (shards, wanted) = (self.shards, config.shards);
        unless(shards == wanted, &format_args!("runtime.shards: it has {shards}, not {wanted}"))?;
        let keys = "listen.address, admin.address, listen.redirect_address";
        let are_same = own.len() == self.addresses.len() && own.iter().zip(&self.addresses).all(same);
        unless(are_same, &format_args!("{keys}: it has {:?}, not {own:?}", self.addresses))?;
        check_secured(config, self.secured)
    }
}

/// Whether the public listener and the admin's speak TLS.
pub(super) fn secured(config: &Config) -> [bool; 2] {
    [!config.tls_certificates.is_empty(), config.admin_tls == "on"]
}

/// Refuses other listeners with TLS than there were.
pub(super) fn check_secured(config: &Config, before: [bool; 2]) -> Result<(), Ended> {
    let wrong = "TLS begins and ends with a restart, or clients would speak in the clear";
    Fatal::Configuration.unless(secured(config) == before, "tls.certificates, admin.tls", wrong)
}

/// What holds the world out: the listeners, public ones in the order of their shards, then the admin's and the one that
/// redirects; and the data folder.
pub(super) struct Held {
    pub listeners: Vec<TcpListener>,
    pub folder: DataFolder,
}

/// What is in no file; of the tickets the oldest secret first, of the assertions those of each listener.
pub(super) struct Known {
    pub started_unix_ms: u64,
    pub tickets: Zeroizing<Vec<[u8; SECRET_BYTES]>>,
    pub used: Vec<UsedAssertions>,
}

fn socket_path(data: &Path) -> PathBuf {
    data.join("takeover").join("socket")
}

/// Who is at the other end (`SO_PEERCRED`, unix(7)), if it is a process of our user.
fn peer(stream: &UnixStream) -> io::Result<UCred> {
    let peer = socket_peercred(stream)?;
    let foreign = || io::Error::other(format!("process {} is of another user ({})", peer.pid, peer.uid));
    if peer.uid == geteuid() { Ok(peer) } else { Err(foreign()) }
}

/// Lets others take over: one that has loaded all is given to `ready`, with which this process's own work ends.
pub(super) fn listen(
    data: &Path,
    hello: &Hello,
    pause: Arc<Pause>,
    ready: impl Fn(UnixStream) + Send + 'static,
) -> io::Result<()> {
    let path = socket_path(data);
    let folder = path.with_file_name("");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
    // Whose it was has ended, or has given us the folder.
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    let hello = serde_json::to_string(hello)? + "\n";
    // Returns only where nothing comes of it.
    let attend = move |mut stream: UnixStream| {
        stream.set_read_timeout(Some(Duration::from_millis(TAKEOVER_LOAD_MS_MAX)))?;
        stream.set_write_timeout(Some(Duration::from_millis(TAKEOVER_STEP_MS_MAX)))?;
        eprintln!("onecode: takeover: process {} loads; folds wait for it", peer(&stream)?.pid);
        stream.write_all(hello.as_bytes())?;
        stream.read_exact(&mut [0])?;
        ready(stream);
        loop {
            thread::park();
        }
    };
    let attend = move || {
        for stream in listener.incoming().flatten() {
            let Err::<Infallible, io::Error>(reason) = peer(&stream).and_then(|_| pause.during(|| attend(stream)));
            eprintln!("onecode: takeover: given up, serving on: {reason}");
        }
    };
    thread::Builder::new().name("takeover".to_owned()).spawn(attend).map(drop)
}

/// Gives all to the new process, and returns once that serves.
pub(super) fn give(mut stream: &UnixStream, held: &Held, known: Known) -> io::Result<()> {
    let listeners = held.listeners.iter().map(TcpListener::as_fd);
    listeners.chain([held.folder.held.as_fd()]).try_for_each(|descriptor| send_descriptor(stream, descriptor))?;
    stream.write_all(&known.started_unix_ms.to_le_bytes())?;
    stream.write_all(&(known.tickets.len() as u64).to_le_bytes())?;
    stream.write_all(known.tickets.as_flattened())?;
    for (last_expires_unix_s, seen) in known.used.into_iter().flat_map(UsedAssertions::into_generations) {
        stream.write_all(&last_expires_unix_s.to_le_bytes())?;
        stream.write_all(&(seen.len() as u64).to_le_bytes())?;
        stream.write_all(seen.as_flattened())?;
    }
    stream.set_read_timeout(Some(Duration::from_millis(TAKEOVER_STEP_MS_MAX)))?;
    stream.read_exact(&mut [0])
}

/// The process that serves until this one does.
pub(super) struct Old {
    stream: UnixStream,
    listeners: usize,
    /// Keeps others from taking over meanwhile.
    _held: File,
}

/// Finds the process that serves the data folder, which must be one that this configuration can go on from.
pub(super) fn connect(config: &Config, driver: &Taken) -> Result<Old, Ended> {
    let path = socket_path(&config.data);
    let place = format_args!("--takeover: {}", path.display());
    let lockable = || capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    // Found out later, it would leave nobody to serve.
    let may = driver.name == "monoio-epoll" || getrlimit(Resource::Memlock).current.is_none() || lockable();
    let wrong = "two processes with io_uring need an unlimited RLIMIT_MEMLOCK: raise it";
    Fatal::Configuration.unless(may, place, wrong)?;
    let told = |error: io::Error| format!("no server to take over from: {error}: start without --takeover");
    let nobody = |error| Fatal::Configuration.at(place)(told(error));
    let stream = UnixStream::connect(&path).map_err(nobody)?;
    let folder = File::open(path.with_file_name("")).map_err(nobody)?;
    let is_free = folder.try_lock().is_ok();
    Fatal::Held.unless(is_free, place, "another process takes over already: wait for that, or end it")?;
    let read = || {
        let peer = peer(&stream)?;
        stream.set_read_timeout(Some(Duration::from_millis(TAKEOVER_LOAD_MS_MAX)))?;
        let mut line = String::new();
        BufReader::new((&stream).take(4_096)).read_line(&mut line)?;
        Ok((peer.pid, serde_json::from_str::<Hello>(&line)?))
    };
    let (pid, hello) = read().map_err(|error: io::Error| Fatal::Configuration.at(place)(error))?;
    hello.check(config, place)?;
    eprintln!("onecode: takeover: from process {pid}, which serves meanwhile");
    Ok(Old { stream, listeners: hello.shards - 1 + hello.addresses.len(), _held: folder })
}

impl Old {
    /// Has the other process end its journal, and takes what it has.
    pub(super) fn take(&self, data: &Path) -> Result<(Held, Known), Ended> {
        let failed = Fatal::System.at("--takeover: the old process has not given all");
        let (listeners, held, known) = self.receive().map_err(failed)?;
        let folder = DataFolder::hold(data, held, std::process::id(), "onecode serve")?;
        Ok((Held { listeners, folder }, known))
    }

    fn receive(&self) -> io::Result<(Vec<TcpListener>, File, Known)> {
        let mut stream = &self.stream;
        stream.set_read_timeout(Some(Duration::from_millis(TAKEOVER_STEP_MS_MAX)))?;
        stream.write_all(&[0])?;
        let listeners = (0..self.listeners).map(|_| receive_descriptor(stream).map(TcpListener::from));
        let (listeners, held) = (listeners.collect::<io::Result<_>>()?, receive_descriptor(stream)?.into());
        let started_unix_ms = receive_number(stream, u64::MAX)?;
        let count = receive_number(stream, TICKET_KEYS as u64)?;
        let mut tickets = Zeroizing::new(vec![[0; SECRET_BYTES]; count as usize]);
        stream.read_exact(tickets.as_flattened_mut())?;
        let used = (0..self.listeners).map(|_| receive_used(stream)).collect::<io::Result<_>>()?;
        Ok((listeners, held, Known { started_unix_ms, tickets, used }))
    }

    /// Lets the other process go. Whether it still hears that changes nothing: all is ours.
    pub(super) fn release(self) {
        let _ = (&self.stream).write_all(&[0]);
    }
}

fn receive_used(mut stream: &UnixStream) -> io::Result<UsedAssertions> {
    let mut generations = [(0, Vec::new()), (0, Vec::new())];
    for (last_expires_unix_s, seen) in &mut generations {
        *last_expires_unix_s = receive_number(stream, u64::MAX)?;
        seen.resize(receive_number(stream, USED_ASSERTIONS_MAX as u64)? as usize, [0; 16]);
        stream.read_exact(seen.as_flattened_mut())?;
    }
    Ok(UsedAssertions::from_generations(USED_ASSERTIONS_MAX, generations))
}

fn receive_number(mut stream: &UnixStream, max: u64) -> io::Result<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    Some(u64::from_le_bytes(bytes)).filter(|number| *number <= max).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// One descriptor with one byte (`SCM_RIGHTS`, unix(7)).
fn send_descriptor(stream: &UnixStream, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let (mut space, descriptors) = ([MaybeUninit::uninit(); cmsg_space!(ScmRights(1))], [descriptor]);
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    retry_on_intr(|| sendmsg(stream, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

fn receive_descriptor(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    retry_on_intr(|| recvmsg(stream, &mut [IoSliceMut::new(&mut [0])], &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptor.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
