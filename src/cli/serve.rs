//! `onecode serve`: puts the rooms together, starts a thread a shard, and stays with the signals until the end.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam::utils::CachePadded;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Ended, Fatal, counted, demo};
use crate::config::{self, Config, DriverChoice, Overrides};
use crate::driver::{self, Bell, Seat, Taken};
use crate::observe::Observer;
use crate::registry::data_folder::DataFolder;
use crate::registry::snapshot::Snapshot;
use crate::registry::table::Table;
use crate::service::assets::Library;
use crate::service::counters::Counters;
use crate::service::{Parts, Role, Service, Settings};
use crate::shard::Shard;
use crate::shard::mailbox::{INBOX_MESSAGES_MAX, Inbox, Mailbox, Message};

/// What `serve` takes.
#[derive(clap::Args)]
#[command(after_help = "Signals: TERM and INT end it (requests in flight are answered), HUP reads keys and the JWKS \
                        again.\nExit status: 0 ended by a signal; 2 a wrong flag; 69 an address cannot be listened on; \
                        70 internal error; 71 the system refused threads, descriptors or memory; 73 the data folder \
                        cannot be created or written; 74 a file cannot be read or written; 75 the data folder is in \
                        use; 78 bad configuration, keys or registry\nExamples:\n  onecode serve --demo\n  onecode serve --config /etc/onecode/onecode.toml")]
pub struct Args {
    /// Configuration file (TOML); without it flags, ONECODE_… variables and defaults apply
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve synthetic test residents from a temporary data folder; needs nothing else
    #[arg(long)]
    demo: bool,
    /// How many residents the demo has
    #[arg(long, value_name = "N", requires = "demo", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    residents: Option<u32>,
    /// Address of the public listener; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Address of the admin listener
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Data folder
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Shards of the public listener, one thread each
    #[arg(long, value_name = "N")]
    shards: Option<String>,
    /// CPUs to pin the shards to, such as 0-3,8
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
    /// Driver: auto, uring or monoio
    #[arg(long, value_name = "NAME")]
    driver: Option<String>,
}

/// Serves until a signal ends it.
pub fn run(args: Args) -> ExitCode {
    let served = serve(args);
    demo::remove_temporary();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err((fatal, reason)) => fatal.because(reason),
    }
}

/// A process that serves: what the signals' thread needs.
struct Serving {
    config: Config,
    demo_residents: Option<u32>,
    settings: Arc<Settings>,
    inboxes: Vec<Arc<Inbox>>,
    bells: Arc<[Bell]>,
    threads: Vec<JoinHandle<()>>,
}

fn serve(args: Args) -> Result<(), Ended> {
    end_on_panic();
    let now = super::now();
    let (demo_wanted, residents) = (args.demo, args.residents);
    let mut config = configure(args)?;
    check_cpus(&config)?;
    // Registered before anything is started, so that no signal finds the default action.
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(|error| (Fatal::System, error.to_string()))?;
    let (folder, demo) = if demo_wanted {
        let (folder, demo) = demo::open(&config, residents, now)?;
        (folder, Some(demo))
    } else {
        (open_folder(&config)?, None)
    };
    if demo.is_some() {
        folder.path().clone_into(&mut config.data);
        if config.is_default("keys_dir") {
            config.keys_dir = folder.path().join("keys");
        }
    }
    let demo_residents = demo.as_ref().map(|demo| demo.residents);
    let settings = Arc::new(super::settings::make(&config, demo_residents, 1, now.unix_ms)?);
    let registry = Arc::new(match &demo {
        Some(demo) => demo.registry(&settings, now)?,
        None => load_registry(&folder, &settings)?,
    });
    let public = bind(config.listen_address, config.shards)?;
    let admin = bind(config.admin_address, 1)?;
    let address = local_address(&public)?;
    let admin_address = local_address(&admin)?;
    let taken = choose(config.driver)?;
    let shards = counted(config.shards as u64, "shard");
    eprintln!("onecode: driver {taken}; {shards}; data {}", folder.path().display());
    let listeners = public.into_iter().chain(admin).collect();
    let serving = start(config, demo_residents, settings, registry, &taken, listeners, now.unix_ms)?;
    match &demo {
        Some(demo) => demo.announce(address, admin_address),
        None => eprintln!("onecode: serving on http://{address}, admin on http://{admin_address}"),
    }
    serving.stay(signals);
    Ok(())
}

fn configure(args: Args) -> Result<Config, Ended> {
    let environment = config::environment().map_err(|error| super::config_refused(&error))?;
    let flags = Overrides {
        data: args.data,
        listen: args.listen,
        admin: args.admin,
        shards: args.shards,
        cpus: args.cpus,
        driver: args.driver,
        ..Overrides::default()
    };
    config::load(args.config.as_deref(), environment, flags).map_err(|error| super::config_refused(&error))
}

/// Refuses CPUs that this process may not run on, before anything is made or announced.
fn check_cpus(config: &Config) -> Result<(), Ended> {
    let allowed = driver::allowed_cpus();
    let cpus = config.cpus.iter().flatten();
    match cpus.copied().find(|cpu| !allowed.is_empty() && !allowed.contains(&usize::from(*cpu))) {
        Some(cpu) => {
            Err((Fatal::Configuration, format!("runtime.cpus: this process may not use CPU {cpu}: leave it out")))
        }
        None => Ok(()),
    }
}

/// Takes hold of a data folder for serving.
pub(super) fn open_folder_at(path: &std::path::Path) -> Result<DataFolder, Ended> {
    DataFolder::open(path, std::process::id(), "onecode serve").map_err(|error| super::folder_refused(&error))
}

fn open_folder(config: &Config) -> Result<DataFolder, Ended> {
    let folder = open_folder_at(&config.data)?;
    if demo::is_demo(folder.path()) {
        let path = folder.path().display();
        return Err((
            Fatal::Configuration,
            format!("{path} was made by the demo: serve it with --demo, or take another"),
        ));
    }
    Ok(folder)
}

fn load_registry(folder: &DataFolder, settings: &Settings) -> Result<Table, Ended> {
    let path = folder.snapshot_path();
    if !path.exists() {
        eprintln!("onecode: {} is not there yet: nobody is in the registry until `onecode import`", path.display());
        return Ok(Table::with_capacity(crate::limits::REGISTRY_RESIDENTS_MIN));
    }
    let snapshot = Snapshot::open(&path, settings.hash_key.id()).map_err(|error| super::snapshot_refused(&error))?;
    let rows = usize::try_from(snapshot.rows()).unwrap_or(usize::MAX);
    let capacity = rows.saturating_add(rows / 4).max(crate::limits::REGISTRY_RESIDENTS_MIN);
    snapshot.load(capacity).map_err(|error| super::snapshot_refused(&error))
}

fn choose(choice: DriverChoice) -> Result<Taken, Ended> {
    let choice = match choice {
        DriverChoice::Auto => driver::Choice::Auto,
        DriverChoice::Uring => driver::Choice::Uring,
        DriverChoice::Monoio => driver::Choice::Monoio,
    };
    driver::choose(choice).map_err(|reason| (Fatal::Configuration, format!("runtime.driver: {reason}")))
}

fn bind(address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, Ended> {
    driver::bind(address, count).map_err(|error| (Fatal::Address, error.to_string()))
}

fn local_address(listeners: &[TcpListener]) -> Result<SocketAddr, Ended> {
    listeners[0].local_addr().map_err(|error| (Fatal::System, error.to_string()))
}

/// Starts a thread for each listener; the last one is the admin listener's, one more shard that owns no resident.
fn start(
    config: Config,
    demo_residents: Option<u32>,
    settings: Arc<Settings>,
    registry: Arc<Table>,
    taken: &Taken,
    listeners: Vec<TcpListener>,
    started_unix_ms: u64,
) -> Result<Serving, Ended> {
    let system = |error: io::Error| (Fatal::System, error.to_string());
    let count = listeners.len();
    let counters: Vec<Arc<CachePadded<Counters>>> = (0..count).map(|_| Arc::default()).collect();
    let observer =
        Arc::new(Observer::new(counters.clone(), registry.clone(), taken.name().to_owned(), started_unix_ms));
    let operators = config.assets_dir.as_deref().map(|dir| super::assets::read(dir, config.assets_file_bytes_max));
    let library = Arc::new(Library::new(operators.transpose()?.unwrap_or_default()).map_err(system)?);
    let inboxes: Vec<Arc<Inbox>> = (0..count).map(|_| Arc::new(Inbox::new(INBOX_MESSAGES_MAX))).collect();
    let (bells, pulls): (Vec<_>, Vec<_>) =
        (0..count).map(|_| driver::bell()).collect::<io::Result<Vec<_>>>().map_err(system)?.into_iter().unzip();
    let bells: Arc<[Bell]> = bells.into();
    let cpus =
        config.cpus.clone().map_or_else(driver::allowed_cpus, |cpus| cpus.into_iter().map(usize::from).collect());
    let mut threads = Vec::new();
    let seats = listeners.into_iter().zip(pulls).zip(counters).zip(Mailbox::all(&inboxes));
    for (index, (((listener, pull), counters), mailbox)) in seats.enumerate() {
        let public = index + 1 < count;
        let (settings, registry, overview) = (settings.clone(), registry.clone(), observer.clone());
        let library = library.clone();
        let seed = fastrand::u64(..);
        let role = if public { Role::Public } else { Role::Admin };
        let seat = Seat {
            shard: Box::new(move |now| {
                let shards = count - 1;
                let parts = Parts { role, shards, settings, registry, counters, overview, library, seed };
                Shard::new(Service::new(parts), mailbox, now)
            }),
            listener,
            pull,
            bells: bells.clone(),
            cpu: (public && !cpus.is_empty()).then(|| cpus[index % cpus.len()]),
        };
        let name = if public { format!("shard-{index}") } else { "admin".to_owned() };
        let taken = taken.clone();
        let thread = thread::Builder::new().name(name).spawn(move || {
            if let Err(error) = driver::run(&taken, seat) {
                // One shard less would be a server half alive.
                let _ = Fatal::System.because(error);
                demo::remove_temporary();
                std::process::exit(i32::from(Fatal::System as u8));
            }
        });
        threads.push(thread.map_err(system)?);
    }
    Ok(Serving { config, demo_residents, settings, inboxes, bells, threads })
}

impl Serving {
    /// Obeys the signals until all shards are drained.
    fn stay(mut self, mut signals: Signals) {
        for signal in signals.forever() {
            if signal == SIGHUP {
                self.reload();
                continue;
            }
            eprintln!("onecode: ending: requests in flight are answered, then exit");
            self.tell(|| Message::Drain);
            break;
        }
        for thread in self.threads.drain(..) {
            // A panic in it has ended the process already.
            let _ = thread.join();
        }
    }

    /// Reads keys and JWKS again; bad ones change nothing.
    fn reload(&mut self) {
        let generation = self.settings.generation + 1;
        match super::settings::make(&self.config, self.demo_residents, generation, self.settings.started_unix_ms) {
            Ok(settings) => {
                self.settings = Arc::new(settings);
                let settings = self.settings.clone();
                self.tell(move || Message::Settings(settings.clone()));
                eprintln!("onecode: keys and sign-in read again");
            }
            Err((_, reason)) => eprintln!("onecode: keys and sign-in stay as they were: {reason}"),
        }
    }

    fn tell(&self, message: impl Fn() -> Message) {
        for (inbox, bell) in self.inboxes.iter().zip(self.bells.iter()) {
            // A shard that reads its queue makes room within a tick; one that does not is beyond being told.
            while !driver::tell(inbox, bell, message()) {
                thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    }
}

/// A panic anywhere ends the whole process with a status of its own: a rule of ours was broken, and a server of which
/// a shard is missing would go on answering wrongly or not at all. Unwinding stays on for the libraries' own use.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        demo::remove_temporary();
        std::process::exit(i32::from(Fatal::Panic as u8));
    }));
}

/// Writes lines for a person to stdout.
pub(super) fn say(lines: &[String]) {
    let mut text = String::new();
    for line in lines {
        let _ = writeln!(text, "{line}");
    }
    // Nobody may be listening, which is no reason not to serve.
    let _ = io::stdout().write_all(text.as_bytes());
    let _ = io::stdout().flush();
}
