//! The real binary as a child process: started on free ports over a data folder of its own, read line by line, and
//! ended by its process id when the test is over, however that ends.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use onecode::driver;

use super::{Client, Host, Line, PATIENCE_MS, Socket, get, wait_until};

/// The drivers that a real process can run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Under {
    Uring,
    MonoioUring,
    MonoioEpoll,
}

impl Under {
    /// All of them.
    pub const ALL: [Under; 3] = [Under::Uring, Under::MonoioUring, Under::MonoioEpoll];

    /// As the process calls it.
    pub fn name(self) -> &'static str {
        match self {
            Under::Uring => "uring",
            Under::MonoioUring => "monoio-io_uring",
            Under::MonoioEpoll => "monoio-epoll",
        }
    }

    /// Whether this host has it; otherwise says why the tests under it are left out.
    pub fn is_here(self) -> bool {
        let taken = match self {
            Under::Uring => driver::choose("uring"),
            Under::MonoioUring => driver::choose("monoio"),
            Under::MonoioEpoll => return true,
        };
        let reason = match taken {
            Ok(taken) if taken.name == self.name() => return true,
            Ok(taken) => taken.to_string(),
            Err(reason) => reason,
        };
        eprintln!("left out under {}: {reason}", self.name());
        false
    }

    pub fn apply(self, command: &mut Command) {
        let name = if self == Under::Uring { "uring" } else { "monoio" };
        command.args(["--driver", name]);
        if self == Under::MonoioEpoll {
            command.env("MONOIO_FORCE_LEGACY_DRIVER", "1");
        }
    }
}

/// The binary, without what the environment of the tests may say to it.
pub fn onecode() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onecode"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ONECODE_") {
            command.env_remove(name);
        }
    }
    command.env_remove("MONOIO_FORCE_LEGACY_DRIVER").stdin(Stdio::null());
    command
}

/// How long a command may take: one that reads a whole journal has a gigabyte to read and to write after 60 kills.
const COMMAND_MS_MAX: u64 = 180_000;

/// Runs a command to its end, which must come.
pub fn run(command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let readers = (gather(child.stdout.take()), gather(child.stderr.take()));
    let status = wait(&mut child, COMMAND_MS_MAX);
    let text = |reader: Gathering| {
        reader.thread.join().unwrap();
        let text = reader.text.lock().unwrap().clone();
        text.into_bytes()
    };
    Output { status, stdout: text(readers.0), stderr: text(readers.1) }
}

/// Runs a command that must succeed and returns its standard output.
pub fn run_well(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A command that must be refused: its exit status and its one line.
pub fn run_badly(command: &mut Command) -> (i32, String) {
    let output = run(command);
    let line = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), line)
}

struct Gathering {
    text: Arc<Mutex<String>>,
    thread: JoinHandle<()>,
}

fn gather(stream: Option<impl Read + Send + 'static>) -> Gathering {
    let text = Arc::new(Mutex::new(String::new()));
    let shared = text.clone();
    let mut reader = BufReader::new(stream.unwrap());
    let thread = std::thread::spawn(move || {
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|length| length > 0) {
            shared.lock().unwrap().push_str(&line);
            line.clear();
        }
    });
    Gathering { text, thread }
}

fn wait(child: &mut Child, within_ms: u64) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > Duration::from_millis(within_ms) {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the process did not end in {within_ms} ms");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A serving process.
pub struct Server {
    child: Child,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
    pub public: SocketAddr,
    pub admin: SocketAddr,
    data: PathBuf,
    /// The folder around the data folder, where it is ours.
    _outer: Option<tempfile::TempDir>,
    started: Instant,
}

impl Server {
    /// A demo of 200 residents and two shards, in a folder of its own, under the driver of the host's choice.
    pub fn demo() -> Server {
        Server::demo_with(|_| {})
    }

    /// The same under one driver; `None`, with the reason printed, where the host does not have it.
    pub fn under(under: Under) -> Option<Server> {
        under.is_here().then(|| Server::demo_with(|command| under.apply(command)))
    }

    /// The demo, with changes to its command.
    pub fn demo_with(change: impl FnOnce(&mut Command)) -> Server {
        Server::demo_of(200, change)
    }

    /// The demo with so many residents.
    pub fn demo_of(residents: u32, change: impl FnOnce(&mut Command)) -> Server {
        let outer = tempfile::tempdir().unwrap();
        let data = outer.path().join("data");
        let mut command = serve(&data, "127.0.0.1:0");
        command.args(["--demo", "--residents", &residents.to_string(), "--shards", "2"]);
        change(&mut command);
        Server::start(command, &data, Some(outer))
    }

    /// Whatever the command says over a data folder that is kept.
    pub fn over(data: &Path, change: impl FnOnce(&mut Command)) -> Server {
        let mut command = serve(data, "127.0.0.1:0");
        change(&mut command);
        Server::start(command, data, None)
    }

    /// Starts a command that serves, and waits until it does.
    pub fn start(mut command: Command, data: &Path, outer: Option<tempfile::TempDir>) -> Server {
        raise_open_files(5_000);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (gather(child.stdout.take()).text, gather(child.stderr.take()).text);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let (data, started) = (data.to_owned(), Instant::now());
        let mut server =
            Server { child, stdout, stderr, public: nowhere, admin: nowhere, data, _outer: outer, started };
        let deadline = Instant::now() + Duration::from_millis(PATIENCE_MS);
        loop {
            let said = server.stdout() + &server.stderr();
            if let Some((public, admin)) = addresses(&said) {
                (server.public, server.admin) = (public, admin);
                return server;
            }
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("the server ended with {status}: {}", server.stderr());
            }
            assert!(Instant::now() < deadline, "the server does not come up: {said}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Sends the process a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// SIGHUP, and until every shard has what was read: each of them answers by then.
    pub fn reload(&self, how_it_goes: &str) {
        let before = self.stderr().matches(how_it_goes).count();
        self.signal("HUP");
        wait_until("the process has read its keys again", || self.stderr().matches(how_it_goes).count() > before);
        // The shards take what they were told with their next batch of events.
        std::thread::sleep(Duration::from_millis(200));
    }

    /// Ends the process by SIGTERM and returns its exit status and all it has said.
    pub fn stop(mut self) -> (Option<i32>, String) {
        self.signal("TERM");
        let status = self.wait_end(15_000);
        (status, self.stdout() + &self.stderr())
    }

    /// Waits for the end of the process.
    pub fn wait_end(&mut self, within_ms: u64) -> Option<i32> {
        wait(&mut self.child, within_ms).code()
    }

    /// Asks the admin listener.
    pub fn ask_admin(&self, path: &str) -> super::Answer {
        Client::to(self.admin).ask(get(path, "").replace("Host: test", "Host: localhost"))
    }

    /// One value of `/metrics`, by its name with labels.
    pub fn metric(&self, name: &str) -> f64 {
        let metrics = self.ask_admin("/metrics");
        let line = metrics.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {metrics:?}")).parse().unwrap()
    }
}

impl Host for Server {
    fn connect(&self) -> Box<dyn Line + '_> {
        Box::new(Socket::connect(self.public))
    }

    fn session(&self, number: u32) -> String {
        let sessions = std::fs::read_to_string(self.data.join("sessions.txt")).unwrap();
        sessions.lines().nth(number as usize - 1).unwrap().to_owned()
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // By its own id, which is still ours as long as it was not waited for.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the server said:\n{}", self.stderr());
        }
    }
}

/// Lets this process, and those it starts, hold so many descriptors, as far as the host allows (prlimit(1)).
fn raise_open_files(files: u32) {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft: u32 = line.split_ascii_whitespace().nth(3).unwrap().parse().unwrap_or(u32::MAX);
    if soft < files {
        let (pid, limit) = (std::process::id().to_string(), format!("--nofile={files}:"));
        assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
    }
}

/// The command that serves a data folder on this address. What a stall of the machine makes old is not dropped.
pub fn serve(data: &Path, listen: &str) -> Command {
    let mut command = onecode();
    command.env("ONECODE_ADMISSION_DEADLINE_MS", "60000");
    command.args(["serve", "--listen", listen, "--admin", "127.0.0.1:0", "--data"]).arg(data);
    command
}

/// The two addresses, from what the demo prints or from the line that serving without it writes.
fn addresses(said: &str) -> Option<(SocketAddr, SocketAddr)> {
    let said = said.replace("https://", "http://");
    let after = |mark: &str, end: &[char]| {
        let (_, rest) = said.split_once(mark)?;
        let (text, _) = rest.split_once(end)?;
        text.parse().ok()
    };
    let demo = || Some((after("page      http://", &['/'])?, after("admin     http://", &['/'])?));
    let plain = || Some((after("serving on http://", &[','])?, after("admin on http://", &['\n'])?));
    demo().or_else(plain)
}
