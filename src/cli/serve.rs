//! `onecode serve`: puts the rooms together, starts a thread a shard, and stays with the signals until the end.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam::atomic::AtomicCell;
use crossbeam::utils::CachePadded;
use sd_notify::{NotifyState, notify};
use sha2::{Digest, Sha256};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::demo::{self, Demo};
use super::fold::Durable;
use super::state::{self, Replayed};
use super::takeover::{self, Held, Hello, Known, Old};
use super::tls::Tls;
use super::{Done, Ended, Fatal, Place, counted, link, privileges};
use crate::admission::rate::Rates;
use crate::admission::{Admission, Shared};
use crate::code::claims::Issuer;
use crate::code::keyring::Keyring;
use crate::code::qr::Painter;
use crate::code::window::Window;
use crate::config::{Config, Cpus};
use crate::driver::{self, Bell, Seat, Taken};
use crate::http::tls::Listeners;
use crate::journal::{Lane, Port, Writer, writer};
use crate::limits::{
    ADMIN_CONNECTIONS_MAX, DRAIN_MS_MAX, JOURNAL_END_MS_MAX, PAYLOAD_CACHE_SLOTS, PROCESS_DESCRIPTORS_MAX,
    REDIRECT_CONNECTIONS_MAX, REFUSED_CONNECTIONS_MAX, SHARD_CONNECTIONS_MAX, SHARD_CONNECTIONS_MIN,
    SHARD_DESCRIPTORS_MAX, SILENT_WATCHES_MAX, TAKEOVER_STEP_MS_MAX, WATCH_MS,
};
use crate::observe::Observer;
use crate::registry::{DataFolder, HashKey, Meta, SNAPSHOT_FILE, Table, is_there, snapshot};
use crate::service::ahead::Ahead;
use crate::service::assets::Library;
use crate::service::counters::Counters;
use crate::service::device::DeviceKey;
use crate::service::session::SessionKey;
use crate::service::used_assertions::UsedAssertions;
use crate::service::{Parts, Role, Service, Settings};
use crate::shard::Shard;
use crate::shard::mailbox::{INBOX_MESSAGES_MAX, Inbox, Mailbox, Message};
use crate::sys::open_files;
use crate::words::Now;

#[derive(clap::Args)]
#[command(after_help = super::with_exit_statuses(
    "Signals: TERM and INT end it (requests in flight are answered), HUP reads the configuration, keys, \
     certificates, the JWKS and the admin tokens again; a bad one changes nothing.\n\
     Examples:\n  onecode serve --demo\n  onecode serve --config /etc/onecode/onecode.toml\n  \
     onecode serve --takeover --config /etc/onecode/onecode.toml"
))]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// Take over from the process that serves this data folder: its listeners, its journal, and what only it knows
    #[arg(long, conflicts_with = "demo")]
    takeover: bool,
    /// Serve synthetic test residents from a temporary data folder; needs nothing else
    #[arg(long)]
    demo: bool,
    /// How many residents the demo has
    #[arg(long, value_name = "N", requires = "demo", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    residents: Option<u32>,
    /// Speak TLS on the demo's public listener, with a certificate of its own
    #[arg(long, requires = "demo")]
    tls: bool,
    /// Address of the public listener; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Address of the admin listener
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
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

pub fn run(args: &Args) -> Done {
    let served = serve(args);
    demo::remove_temporary();
    served.map(|()| true)
}

struct Serving {
    config: Config,
    settings: Arc<Settings>,
    inboxes: Vec<Arc<Inbox>>,
    bells: Arc<[Bell]>,
    threads: Vec<JoinHandle<()>>,
    durable: Durable,
    tls: Tls,
    held: Held,
}

fn serve(args: &Args) -> Result<(), Ended> {
    end_on_panic();
    let now = super::now();
    let mut config = load(args)?;
    let (library, taken) = prepare(&config)?;
    let connections_max = share_descriptors(config.shards, config.redirect_address.is_some())?;
    // Whoever comes from here on waits until all is there.
    let listeners = if args.takeover { Vec::new() } else { bind(&config)? };
    privileges::leave_root(&config)?;
    privileges::hide_memory()?;
    // Once more, as whom SIGHUP will read them.
    check_files(&config)?;
    // Registered before anything is started, so that no signal finds the default action.
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(Fatal::System.ended())?;
    let (folder, demo) = if args.demo {
        let (folder, demo) = demo::open(&config, args.residents, now)?;
        config.data.clone_from(&folder.path);
        if config.is_default("keys_dir") {
            config.keys_dir = folder.path.join("keys");
        }
        (Ok(folder), Some(demo))
    } else if args.takeover {
        (Err(takeover::connect(&config, &taken)?), None)
    } else {
        let folder = DataFolder::open(&config.data, std::process::id(), "onecode serve")?;
        let wrong = "made by the demo: serve it with --demo, or take another";
        Fatal::Configuration.unless(!demo::is_demo(&folder.path), folder.path.display(), wrong)?;
        (Ok(folder), None)
    };
    if args.tls && config.tls_certificates.is_empty() {
        super::tls::make_demo(&mut config)?;
    }
    let tls = Tls::new();
    let demo_residents = demo.as_ref().map(|demo| demo.residents);
    let keyring = super::open_keyring(&config)?;
    let mut settings = make_settings(&config, &keyring, demo_residents, 1, now.unix_ms, tls.read(&config)?)?;
    tls.watch(&settings.tls).map_err(Fatal::System.ended())?;
    let began = Instant::now();
    if let Ok(folder) = &folder {
        make_registry(folder, &settings, demo.as_ref(), now)?;
    }
    let (key_id, room) = (settings.hash_key.id(), state::room_to_serve(&config));
    let (table, mut replayed) = state::open(&config.data, key_id, room, args.takeover)?;
    if let Some(demo) = &demo {
        demo.write_tokens(&settings, &table, now)?;
    }
    let table = Arc::new(table);
    state::settle(&table, began);
    eprintln!("onecode: driver {taken}; {}; data {}", counted(config.shards as u64, "shard"), config.data.display());
    let (held, used, writer, old) = match folder {
        Ok(folder) => (Held { listeners, folder }, Vec::new(), None, None),
        Err(old) => {
            // Before, since writes wait from then on.
            let writer = Writer::choose(&state::journal_folder(&config.data), config.journal_cpu.map(usize::from));
            let (held, known) = old.take(&config.data)?;
            state::catch_up(&config.data, &table, &mut replayed)?;
            settings.started_unix_ms = known.started_unix_ms;
            tls.take_over(&known.tickets);
            (held, known.used, Some(writer), Some(old))
        }
    };
    let seats = (held, used, connections_max);
    let serving = start(config, Arc::new(settings), (table, replayed, writer), (library, tls), &taken, seats)?;
    // Before the old process ends, which would end the service.
    let states = [NotifyState::Ready, NotifyState::MainPid(std::process::id())];
    let _ = notify(&states[..1 + usize::from(old.is_some())]);
    old.into_iter().for_each(Old::release);
    serving.stay(signals, demo.as_ref(), args)
}

fn load(args: &Args) -> Result<Config, Ended> {
    args.place.load(&[
        ("listen.address", "--listen", args.listen.as_deref()),
        ("admin.address", "--admin", args.admin.as_deref()),
        ("runtime.shards", "--shards", args.shards.as_deref()),
        ("runtime.cpus", "--cpus", args.cpus.as_deref()),
        ("runtime.driver", "--driver", args.driver.as_deref()),
    ])
}

/// Makes the registry of a data folder that has none.
fn make_registry(folder: &DataFolder, settings: &Settings, demo: Option<&Demo>, now: Now) -> Result<(), Ended> {
    let snapshot = folder.path.join(SNAPSHOT_FILE);
    if is_there(&snapshot) {
        return Ok(());
    }
    state::check_new(&folder.path)?;
    let table = demo.map_or_else(|| Table::new(0), |demo| demo.table(&settings.hash_key, now))?;
    let meta = Meta { key_id: settings.hash_key.id(), created_unix_ms: now.unix_ms, folded_to: 0 };
    snapshot::store(&snapshot, &meta, &table, &mut |_| Ok(()))?;
    if demo.is_none() {
        let made = snapshot.display();
        eprintln!("onecode: {made} is new and empty: nobody is in the registry until `onecode import`");
    }
    Ok(())
}

/// Everything that can be refused before anything is made, bound or announced; `check-config` asks the same.
pub(super) fn prepare(config: &Config) -> Result<(Library, Taken), Ended> {
    check_cpus(config)?;
    privileges::user(config)?;
    check_files(config)?;
    link::budget(config)?;
    let operators = config.assets_dir.as_deref().map(|dir| {
        let named = |(fatal, reason)| (fatal, format!("{}: {reason}", config.place("assets.dir")));
        super::assets::read(dir, config.assets_file_bytes_max).map_err(named)
    });
    let library = Library::new(operators.transpose()?.unwrap_or_default());
    let driver = driver::choose(&config.driver).map_err(Fatal::Configuration.at("runtime.driver"))?;
    Ok((library.map_err(Fatal::System.ended())?, driver))
}

/// Whether all that SIGHUP reads again can be read, and is good.
pub(super) fn check_files(config: &Config) -> Result<(), Ended> {
    Tls::new().read(config)?;
    config.read_verifier()?;
    config.read_callers()?;
    Ok(())
}

/// Refuses CPUs that this process may not run on.
fn check_cpus(config: &Config) -> Result<(), Ended> {
    let allowed = driver::allowed_cpus();
    let cpus = config.cpus.iter().flat_map(|cpus| &cpus.0).map(|cpu| ("runtime.cpus", cpu));
    let mut cpus = cpus.chain(config.journal_cpu.iter().map(|cpu| ("journal.cpu", cpu)));
    cpus.try_for_each(|(key, cpu)| {
        let may = allowed.is_empty() || allowed.contains(&usize::from(*cpu));
        Fatal::Configuration.unless(may, key, format_args!("this process may not use CPU {cpu}: leave it out"))
    })
}

/// Connections that each public shard may have: an equal share of the descriptors that this process may still open,
/// less what it needs itself, so that no flood of connections takes the admin listener's.
fn share_descriptors(shards: usize, redirects: bool) -> Result<usize, Ended> {
    let limit = open_files::raise_limit().map_err(Fatal::System.at("open files"))?;
    let each = SHARD_DESCRIPTORS_MAX + REFUSED_CONNECTIONS_MAX;
    let redirect = if redirects { REDIRECT_CONNECTIONS_MAX + each } else { 0 };
    let own = (shards + 1) * each + PROCESS_DESCRIPTORS_MAX + ADMIN_CONNECTIONS_MAX + redirect;
    let taken = open_files::count() + own as u64;
    let share = usize::try_from(limit.saturating_sub(taken)).unwrap_or(usize::MAX) / shards;
    let (least, need) = (taken + (shards * SHARD_CONNECTIONS_MIN) as u64, counted(shards as u64, "shard"));
    let wrong = format_args!("the limit of {limit} (RLIMIT_NOFILE) is less than the {least} that {need} need");
    Fatal::System.unless(share >= SHARD_CONNECTIONS_MIN, "open files", wrong)?;
    if share < SHARD_CONNECTIONS_MAX {
        let (all, wanted) = (share * shards, taken + (shards * SHARD_CONNECTIONS_MAX) as u64);
        eprintln!(
            "onecode: open files: the limit of {limit} (RLIMIT_NOFILE) allows {all} connections, {share} on each shard; \
             for all that a shard can hold raise it to {wanted}"
        );
    }
    Ok(share.min(SHARD_CONNECTIONS_MAX))
}

/// The listeners in the order of their shards.
fn bind(config: &Config) -> Result<Vec<TcpListener>, Ended> {
    let mut listeners = Vec::new();
    let pace = link::budget(config)?.map(|bits| u32::try_from(bits / 8).unwrap_or(u32::MAX));
    let (public, admin) = ((Some(config.listen_address), config.shards), (Some(config.admin_address), 1));
    for (address, count) in [public, admin, (config.redirect_address, 1)] {
        if let Some(address) = address {
            listeners.extend(driver::bind(address, count, pace).map_err(Fatal::Address.ended())?);
        }
    }
    Ok(listeners)
}

/// Starts a thread for each listener; a public one may have so many connections. Behind the public ones come the admin
/// listener's and perhaps the plain one beside TLS, shards that own no resident.
fn start(
    config: Config,
    settings: Arc<Settings>,
    (registry, mut replayed, writer): (Arc<Table>, Replayed, Option<Writer>),
    (library, tls): (Library, Tls),
    taken: &Taken,
    (held, used, connections_max): (Held, Vec<UsedAssertions>, usize),
) -> Result<Serving, Ended> {
    let system = |error: io::Error| (Fatal::System, error.to_string());
    let (count, library) = (held.listeners.len(), Arc::new(library));
    let counters: Vec<Arc<CachePadded<Counters>>> = (0..count).map(|_| Arc::default()).collect();
    let inboxes: Vec<Arc<Inbox>> = (0..count).map(|_| Arc::new(Inbox::new(INBOX_MESSAGES_MAX))).collect();
    let (bells, pulls): (Vec<_>, Vec<_>) =
        (0..count).map(|_| driver::bell()).collect::<io::Result<Vec<_>>>().map_err(system)?.into_iter().unzip();
    let lanes: Vec<Arc<Lane>> = (0..count).map(|_| Lane::new()).collect();
    let (past, keyed) = (std::mem::take(&mut replayed.past), (registry.clone(), settings.hash_key.id()));
    let (durable, bells) = Durable::start(&config, keyed, (replayed, writer), lanes.clone(), bells)?;
    let shared = shared(&config)?;
    let observer = Arc::new(Observer {
        counters: counters.clone(),
        registry: registry.clone(),
        folding: durable.folding.clone(),
        driver: taken.name,
        started_unix_ms: super::now().unix_ms,
        certificate_expires_unix_s: tls.expires_unix_s.clone(),
        reloads_refused: tls.reloads_refused.clone(),
        shards_heard_unix_s: AtomicCell::default(),
        shared: shared.clone(),
        interface: link::interface(config.listen_address.ip()).unwrap_or_default(),
    });
    let named = |Cpus(cpus): &Cpus| cpus.iter().copied().map(usize::from).collect();
    let cpus = config.cpus.as_ref().map_or_else(driver::allowed_cpus, named);
    let ahead = Arc::new(Ahead::new(config.code_signed_ahead as usize).map_err(system)?);
    let seats = held.listeners.iter().zip(pulls).zip(counters).zip(Mailbox::all(&inboxes));
    let (mut used, mut threads, (begun, begins)) = (used.into_iter(), Vec::new(), mpsc::channel());
    for (index, (((listener, pull), counters), mailbox)) in seats.enumerate() {
        let (shards, seed) = (config.shards, fastrand::u64(..));
        let (settings, registry, overview) = (settings.clone(), registry.clone(), observer.clone());
        let (library, pages, ahead) = (library.clone(), library.arena, ahead.clone());
        let (port, past) = (Port::new(lanes[index].clone()), past.share(index, shards));
        let (role, name, payloads, connections_max) = match index.checked_sub(shards) {
            None => (Role::Public, format!("shard-{index}"), PAYLOAD_CACHE_SLOTS, connections_max),
            Some(0) => (Role::Admin, "admin".to_owned(), 0, ADMIN_CONNECTIONS_MAX),
            Some(_) => (Role::Redirect, "redirect".to_owned(), 0, REDIRECT_CONNECTIONS_MAX),
        };
        let (is_public, used, begun) = (role == Role::Public, used.next(), begun.clone());
        let admission = is_public.then(|| admission(&config, shared.clone(), settings.demo_residents));
        let admission = admission.unwrap_or_default();
        let parts =
            Parts { role, shards, settings, registry, counters, overview, library, payloads, ahead, admission, seed };
        let shard = move |now| {
            let _ = begun.send(());
            Shard::new(Service::new(parts, port, past).remembering(used), mailbox, connections_max, now)
        };
        let seat = Seat {
            shard: Box::new(shard),
            listener: listener.try_clone().map_err(system)?,
            pull,
            bells: bells.clone(),
            pages,
            zerocopy_threshold_bytes: config.zerocopy_threshold_bytes as usize,
            cpu: (is_public && !cpus.is_empty()).then(|| cpus[index % cpus.len()]),
        };
        threads.push(run_on_a_thread(name, taken.clone(), seat).map_err(system)?);
    }
    // A driver that cannot begin ends the process.
    (0..count).for_each(|_| _ = begins.recv());
    watch(inboxes.clone(), bells.clone(), observer);
    Ok(Serving { config, settings, inboxes, bells, threads, durable, tls, held })
}

/// Asks all shards whether they live, and feeds the watchdog of systemd (sd_notify(3)) while each lets go of that. One that
/// does not for long ends the process. Looks are counted and not time, which passes for a machine that stands still, too.
fn watch(inboxes: Vec<Arc<Inbox>>, bells: Arc<[Bell]>, observer: Arc<Observer>) {
    let (asked, mut silent) = (Arc::new(()), 0);
    thread::spawn(move || {
        loop {
            silent += 1;
            if Arc::strong_count(&asked) == 1 {
                silent = 0;
                observer.shards_heard_unix_s.store(super::now().unix_s());
                let _ = notify(&[NotifyState::Watchdog]);
                tell(&inboxes, &bells, || Message::Alive(asked.clone()));
            } else if silent >= SILENT_WATCHES_MAX {
                end_at_once(Fatal::Panic, "a shard stands still: ending rather than serving half alive");
            }
            thread::sleep(Duration::from_millis(WATCH_MS));
        }
    });
}

/// What all shards decide together; says what may be sent.
fn shared(config: &Config) -> Result<Arc<Shared>, Ended> {
    let (budget, mut key) = (link::budget(config)?, [0; 8]);
    super::random(&mut key);
    let told = budget.map_or("none, answers are not bounded".to_owned(), |bits| format!("{bits} bits a second"));
    eprintln!("onecode: egress budget: {told}");
    Ok(Arc::new(Shared::new(budget, u64::from_le_bytes(key))))
}

/// One public shard's part in admission; operators are no crowd. In a demo nobody's rate has a bound unless it was set:
/// a load script asks more of one session than a person does.
fn admission(config: &Config, shared: Arc<Shared>, demo_residents: Option<u32>) -> Admission {
    let bound = |key, rate| if demo_residents.is_some() && config.is_default(key) { 0 } else { rate };
    let rates = Rates::new(
        bound("admission.session_requests_per_minute", config.session_requests_per_minute),
        bound("admission.device_requests_per_minute", config.device_requests_per_minute),
    );
    Admission::new(shared, config.shards, u64::from(config.deadline_ms), rates)
}

fn run_on_a_thread(name: String, taken: Taken, seat: Seat) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name).spawn(move || {
        if let Err(error) = driver::run(&taken, seat) {
            // One shard less would be a server half alive.
            end_at_once(Fatal::System, &error.to_string());
        }
    })
}

impl Serving {
    /// Obeys the signals until all shards are drained, or another process has taken over.
    fn stay(mut self, mut signals: Signals, demo: Option<&Demo>, args: &Args) -> Result<(), Ended> {
        let addresses = self.held.listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>();
        let addresses = addresses.map_err(Fatal::System.ended())?;
        let (address, admin) = (addresses[0], addresses[self.config.shards]);
        let (ready, successor) = mpsc::channel();
        if demo.is_none() {
            let (hello, handle) = (Hello::new(&self.config, &addresses), signals.handle());
            let ready = move |stream| {
                // Nobody takes it where a signal was first: then this process ends for that.
                let _ = ready.send(stream);
                handle.close();
            };
            if let Err(error) = takeover::listen(&self.config.data, &hello, self.durable.pause.clone(), ready) {
                eprintln!("onecode: warning: no other process can take over from this one: {error}");
            }
        }
        let scheme = |tls: &Option<_>| if tls.is_some() { "https" } else { "http" };
        let (scheme, admin_scheme) = (scheme(&self.settings.tls.public), scheme(&self.settings.tls.admin));
        match demo {
            Some(demo) => demo.announce((scheme, address), (admin_scheme, admin)),
            None => eprintln!("onecode: serving on {scheme}://{address}, admin on {admin_scheme}://{admin}"),
        }
        let mut signal = signals.forever();
        let handed = loop {
            match signal.next() {
                Some(SIGHUP) => self.reload(args),
                Some(_) => {
                    eprintln!("onecode: ending: requests in flight are answered, then exit");
                    tell(&self.inboxes, &self.bells, || Message::Drain);
                    break Ok(());
                }
                None => break successor.recv().map_err(Fatal::System.ended()).and_then(|other| self.hand_over(&other)),
            }
        };
        let deadline = Instant::now() + Duration::from_millis(DRAIN_MS_MAX);
        for thread in self.threads.drain(..) {
            // A panic in it has ended the process already.
            let _ = thread.join();
        }
        self.durable.stop(deadline.max(Instant::now() + Duration::from_millis(JOURNAL_END_MS_MAX)))?;
        handed
    }

    /// Lets go of all that can be written to, and drains once the other process serves, or does not. That may have the
    /// listeners in either case, so they are not shut down.
    fn hand_over(&self, other: &UnixStream) -> Result<(), Ended> {
        let given = self.let_go().and_then(|known| takeover::give(other, &self.held, known));
        tell(&self.inboxes, &self.bells, || Message::Drain);
        let reason = "takeover: the journal was ended for a process that does not serve: ending, start again";
        given.map_err(Fatal::System.at(reason))?;
        eprintln!("onecode: takeover: done; requests in flight are answered, then exit");
        Ok(())
    }

    /// Takes no more writes, lets all that were taken become durable, and ends the journal.
    fn let_go(&self) -> io::Result<Known> {
        let wait = Duration::from_millis(TAKEOVER_STEP_MS_MAX);
        let (told, hear) = mpsc::channel();
        tell(&self.inboxes, &self.bells, || Message::LetGo(told.clone()));
        let used = self.inboxes.iter().map(|_| hear.recv_timeout(wait).map_err(io::Error::other));
        let mut used = used.collect::<io::Result<Vec<_>>>()?;
        used.sort_unstable_by_key(|(shard, _)| *shard);
        if !self.durable.handle.stop(Instant::now() + wait) {
            return Err(io::Error::other("the journal's disk does not answer"));
        }
        let used = used.into_iter().filter_map(|(_, used)| used).collect();
        Ok(Known { started_unix_ms: self.settings.started_unix_ms, tickets: self.tls.tickets.secrets(), used })
    }

    /// Reads the configuration again and all that it names; bad ones change nothing.
    fn reload(&mut self, args: &Args) {
        let _ = notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now().expect("Linux has that clock")]);
        match self.read_again(args) {
            Ok((config, later, settings)) => {
                self.config = config;
                self.settings = Arc::new(settings);
                self.tls.set(&self.settings.tls);
                let settings = self.settings.clone();
                tell(&self.inboxes, &self.bells, move || Message::Settings(settings.clone()));
                eprintln!("onecode: configuration, certificates, keys and sign-in read again");
                if !later.is_empty() {
                    eprintln!("onecode: warning: this changes with a restart: {}", later.join(", "));
                }
            }
            Err((_, reason)) => {
                self.tls.reloads_refused.fetch_add(1);
                eprintln!("onecode: configuration, certificates, keys and sign-in stay as they were: {reason}");
            }
        }
        let _ = notify(&[NotifyState::Ready]);
    }

    /// Never makes keys: those that this process was started with are the ones that its registry needs.
    fn read_again(&self, args: &Args) -> Result<(Config, Vec<&'static str>, Settings), Ended> {
        let mut config = self.config.clone();
        // The demo makes its own.
        let fresh = if self.settings.demo_residents.is_some() { config.clone() } else { load(args)? };
        link::budget(&fresh)?;
        let later = config.adopt(&fresh);
        takeover::check_secured(&config, takeover::secured(&self.config))?;
        super::check_keys_kept(&self.config)?;
        let keyring = Keyring::open(&self.config.keys_dir)?;
        let Settings { generation, started_unix_ms, demo_residents, hash_key, .. } = &*self.settings;
        let (tls, next) = (self.tls.read(&config)?, generation + 1);
        let settings = make_settings(&config, &keyring, *demo_residents, next, *started_unix_ms, tls)?;
        let (is_same, folder) = (settings.hash_key.id() == hash_key.id(), self.config.keys_dir.display());
        Fatal::Configuration.unless(is_same, folder, "another hash key than the registry's: restore the keys")?;
        Ok((config, later, settings))
    }
}

fn tell(inboxes: &[Arc<Inbox>], bells: &[Bell], message: impl Fn() -> Message) {
    for (inbox, bell) in inboxes.iter().zip(bells) {
        // A shard that reads its queue makes room within a tick; one that does not is beyond being told.
        while !driver::tell(inbox, bell, message()) {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Reads the JWKS and makes, of that and the keyring, one whole set of settings.
fn make_settings(
    config: &Config,
    keyring: &Keyring,
    demo_residents: Option<u32>,
    generation: u32,
    started_unix_ms: u64,
    tls: Listeners,
) -> Result<Settings, Ended> {
    let issuer = Issuer::new(keyring, &config.issuer).map_err(Fatal::Configuration.ended())?;
    let window = Window::new(config.code_window_s, config.code_life_s).expect("the configuration is checked");
    let session = keyring.session_key();
    let session_key = SessionKey::new(session.epoch, *session.key.expose())
        .ok_or("the session epoch of the keyring is beyond its range")
        .map_err(Fatal::Configuration.ended())?;
    let jwks = keyring.jwks_json(&config.issuer);
    let hash = Sha256::digest(jwks.as_bytes());
    Ok(Settings {
        generation,
        issuer,
        painter: Painter::default(),
        window,
        session_key,
        device_key: DeviceKey::new(*keyring.device_key.expose()),
        callers: config.read_callers()?,
        trust: keyring.trusted(&config.issuer),
        session_s: u64::from(config.session_days) * 86_400,
        hash_key: Arc::new(HashKey::new(*keyring.hash_key.expose())),
        verifier: config.read_verifier()?,
        login_url: config.login_url.clone(),
        demo_residents,
        jwks: Bytes::from(jwks),
        jwks_etag: format!("\"{:016x}\"", u64::from_be_bytes(hash[..8].try_into().expect("a digest is longer"))),
        admin_host_names: config.admin_host_names.clone(),
        tls,
        trusted_proxies: config.trusted_proxies.iter().filter_map(|network| network.parse().ok()).collect(),
        proxy_protocol: config.proxy_protocol.is_some(),
        allowed_origins: config.allowed_origins.iter().map(|origin| origin.as_str().into()).collect(),
        started_unix_ms,
    })
}

fn end_at_once(fatal: Fatal, reason: &str) -> ! {
    eprintln!("onecode: {reason}");
    demo::remove_temporary();
    std::process::exit(i32::from(fatal as u8))
}

/// A panic anywhere ends the whole process with a status of its own: a rule of ours was broken, and a server of which
/// a shard is missing would go on answering wrongly or not at all. Unwinding stays on for the libraries' own use.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if thread::current().name() == Some(writer::PROBE_THREAD) {
            // It was only tried whether glommio runs here; the journal's log line says that it does not.
            return;
        }
        report(info);
        demo::remove_temporary();
        std::process::exit(i32::from(Fatal::Panic as u8));
    }));
}
