//! The configuration: from flags, environment, a TOML file and defaults to one checked [`Config`].
//!
//! Precedence is flag, environment, file, default. A key is one line of the table below, and so known everywhere or
//! nowhere: by its dotted name in the file (`listen.address`), with dots as underlines in the environment
//! (`ONECODE_LISTEN_ADDRESS`), and for some as a flag. Whatever is unknown, malformed or contradicts another value is
//! refused with its full name and place, in one line; a value is never guessed or dropped in silence, and one that a
//! stronger source covers is checked too, lest it be found wrong on the day on which it counts.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::limits::{
    ASSET_FILE_BYTES_MAX, CODE_LIFE_S_MAX, CODE_WINDOW_S_MAX, CODE_WINDOW_S_MIN, CONFIG_FILE_BYTES_MAX, CPUS_MAX,
    DEADLINE_MS_MAX, DEADLINE_MS_MIN, JOURNAL_DISK_BYTES_MIN, JOURNAL_SCAN_DAYS_MAX, RATE_PER_MINUTE_MAX,
    REGISTRY_RESIDENTS_MAX, SESSION_DAYS_MAX, SIGNED_AHEAD_MAX, ZEROCOPY_BYTES_MIN,
};
use crate::service::callers::Callers;
use crate::service::sign_in::Verifier;
use crate::sys::regular_file::{self, read_bounded};
use crate::words::{Ended, Fatal};

mod layers;
mod values;

use layers::Raw;
pub use values::Cpus;

/// A key: its name, how its field is set, how that is shown, and how it is copied from another configuration.
type Key = (&'static str, fn(&mut Config, &Raw) -> Result<(), String>, fn(&Config) -> Value, fn(&mut Config, &Config));

/// Every key with what it means, and the value of those that have one by default.
const DEFAULTS: &str = include_str!("../contrib/onecode.toml");

/// How the names of those keys begin whose values are taken again on SIGHUP.
const RELOADED: [&str; 6] = ["auth.", "admin.host_names", "admin.tokens_file", "http.", "listen.trusted_", "tls."];

/// What every field holds before the defaults are read into it; an address has no such value of its own.
macro_rules! unset {
    () => {
        Default::default()
    };
    ($unset:expr) => {
        $unset
    };
}
const UNSET: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Makes of each line, `"KEY" FIELD: TYPE, METHOD OF RAW`, a field of [`Config`] and a [`Key`].
macro_rules! keys {
    ($($name:literal $field:ident: $kind:ty $(= $unset:expr)?, $read:ident($($with:expr),*);)*) => {
        /// The effective configuration, checked as a whole. What each key means is said in `contrib/onecode.toml`.
        #[derive(Clone, PartialEq, Eq, Debug)]
        #[allow(missing_docs, reason = "the file of defaults says it")]
        pub struct Config {
            $(pub $field: $kind,)*
            /// Where each value that is set was set.
            sources: BTreeMap<&'static str, String>,
        }

        impl Config {
            fn unset() -> Config {
                Config { $($field: unset!($($unset)?),)* sources: BTreeMap::new() }
            }
        }

        const KEYS: &[Key] = &[$((
            $name,
            |config, raw| raw.$read($($with),*).map(|value| config.$field = value.into()),
            |config| json!(config.$field),
            |config, from| config.$field = from.$field.clone(),
        )),*];
    };
}

// In the order in which `check-config` prints them.
keys! {
    "data" data: PathBuf, text();
    "keys_dir" keys_dir: PathBuf, text();
    "issuer" issuer: String, parsed(values::issuer);
    "user" user: Option<String>, text();
    "listen.address" listen_address: SocketAddr = UNSET, parsed(values::address);
    "listen.trusted_proxies" trusted_proxies: Vec<String>, texts(values::network);
    "listen.proxy_protocol" proxy_protocol: Option<String>, parsed(values::one_of(&["v2"]));
    "http.allowed_origins" allowed_origins: Vec<String>, texts(values::origin);
    "listen.redirect_address" redirect_address: Option<SocketAddr>, parsed(values::address);
    "tls.certificates" tls_certificates: Vec<String>, texts(values::file);
    "tls.keys" tls_keys: Vec<String>, texts(values::file);
    "tls.client_ca_file" tls_client_ca_file: Option<PathBuf>, path();
    "tls.redirect_port" tls_redirect_port: Option<u16>, whole(1..=u16::MAX);
    "admin.address" admin_address: SocketAddr = UNSET, parsed(values::address);
    "admin.host_names" admin_host_names: Vec<String>, texts(values::host_name);
    "admin.tokens_file" admin_tokens_file: Option<PathBuf>, path();
    "admin.tls" admin_tls: String, parsed(values::one_of(&["off", "on"]));
    "admin.client_ca_file" admin_client_ca_file: Option<PathBuf>, path();
    "runtime.shards" shards: usize, whole(1..=CPUS_MAX);
    "runtime.cpus" cpus: Option<Cpus>, parsed(values::cpus);
    "runtime.driver" driver: String, parsed(values::one_of(&["auto", "uring", "monoio"]));
    "registry.capacity" registry_capacity: Option<u32>, whole(1..=REGISTRY_RESIDENTS_MAX);
    "journal.cpu" journal_cpu: Option<u16>, whole(0..=CPUS_MAX - 1);
    "journal.scan_days" journal_scan_days: u32, whole(1..=JOURNAL_SCAN_DAYS_MAX);
    "journal.disk_bytes_max" journal_disk_bytes_max: u64, whole(JOURNAL_DISK_BYTES_MIN..=i64::MAX as u64);
    "auth.jwks_file" jwks_file: Option<PathBuf>, path();
    "auth.issuer" auth_issuer: Option<String>, text();
    "auth.audience" auth_audience: Option<String>, text();
    "auth.id_claim" id_claim: String, text();
    "auth.login_url" login_url: Option<String>, parsed(values::login_url);
    "auth.session_days" session_days: u32, whole(1..=SESSION_DAYS_MAX);
    "code.window_s" code_window_s: u32, whole(CODE_WINDOW_S_MIN..=CODE_WINDOW_S_MAX);
    "code.life_s" code_life_s: u32, whole(1..=CODE_LIFE_S_MAX);
    "code.signed_ahead" code_signed_ahead: u32, whole(0..=SIGNED_AHEAD_MAX);
    "bandwidth.egress_bits_per_s" egress_bits_per_s: Option<String>, parsed(values::budget);
    "admission.deadline_ms" deadline_ms: u32, whole(DEADLINE_MS_MIN..=DEADLINE_MS_MAX);
    "admission.session_requests_per_minute" session_requests_per_minute: u32, whole(0..=RATE_PER_MINUTE_MAX);
    "admission.device_requests_per_minute" device_requests_per_minute: u32, whole(0..=RATE_PER_MINUTE_MAX);
    "assets.dir" assets_dir: Option<PathBuf>, path();
    "assets.file_bytes_max" assets_file_bytes_max: u32, whole(1..=ASSET_FILE_BYTES_MAX);
    "assets.zerocopy_threshold_bytes" zerocopy_threshold_bytes: u32, whole(ZEROCOPY_BYTES_MIN..=ASSET_FILE_BYTES_MAX);
}

/// The names of all keys.
pub fn keys() -> impl ExactSizeIterator<Item = &'static str> {
    KEYS.iter().map(|(name, ..)| *name)
}

/// A flag of a command: the key that it sets, its name, and its value, if it was given.
pub type Flag<'a> = (&'static str, &'static str, Option<&'a str>);

/// Why a configuration is refused: one line, with the place where that was set.
fn refused(place: impl Display, problem: &str) -> Ended {
    let one_line: String = problem.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    (Fatal::Configuration, format!("{place}: {one_line}"))
}

/// Reads `file`, if there is one, and joins it with the process's environment and `flags`.
/// Errors: the first thing that is wrong, in the order file, environment, flags, rules.
pub fn load<'a>(file: Option<&Path>, flags: impl IntoIterator<Item = Flag<'a>>) -> Result<Config, Ended> {
    let read = |path: &Path| Ok::<_, Ended>((path.display().to_string(), read_text(path, File::open(path))?));
    let text = file.map(read).transpose()?;
    // A container's CPU quota counts here, unlike in a count of the machine's CPUs.
    let cpus_available = std::thread::available_parallelism().map_or(1, usize::from);
    let file = text.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    join(file, layers::environment()?, flags, cpus_available)
}

/// [`load`] without its file system: `file` is a name and a text.
fn join<'a>(
    file: Option<(&str, &str)>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: impl IntoIterator<Item = Flag<'a>>,
    cpus_available: usize,
) -> Result<Config, Ended> {
    let mut config = Config::unset();
    layers::of_file("contrib/onecode.toml", DEFAULTS, |key, raw, place| config.set(key, raw, place))?;
    config.sources.clear();
    config.shards = cpus_available.clamp(1, usize::from(CPUS_MAX));
    if let Some((name, text)) = file {
        layers::of_file(name, text, |key, raw, place| config.set(key, raw, place))?;
    }
    for (variable, value) in environment {
        let key = layers::known(&variable, layers::variable_of, "environment")?;
        config.set(key, &Raw(value), variable)?;
    }
    for (name, flag, value) in flags {
        if let Some(value) = value {
            config.set(layers::known(name, str::to_owned, flag)?, &Raw(value.to_owned()), flag.to_owned())?;
        }
    }
    config.by_the_rules()
}

impl Config {
    /// Sets a key, whatever weaker sources have said.
    fn set(&mut self, (name, set, ..): &'static Key, raw: &Raw, place: String) -> Result<(), Ended> {
        set(self, raw).map_err(|problem| {
            let (fatal, line) = refused(format_args!("{place}: {name}"), &problem);
            // What only a rule refuses is a wrong configuration wherever it was set.
            (if place.starts_with("--") { Fatal::Usage } else { fatal }, line)
        })?;
        self.sources.insert(name, place);
        Ok(())
    }

    /// Fills in the defaults that depend on other keys, and checks the values with each other.
    fn by_the_rules(mut self) -> Result<Config, Ended> {
        if self.is_default("keys_dir") {
            self.keys_dir = self.data.join("keys");
        }
        if let Some(Cpus(cpus)) = &self.cpus {
            let (shards, named) = (self.shards, cpus.len());
            if self.is_default("runtime.shards") {
                self.shards = named;
            }
            let problem =
                format_args!("{shards} shards, but runtime.cpus names {named}: each shard has a CPU of its own");
            self.unless(self.shards <= named, "runtime.shards", problem)?;
        }
        let (life_s, two_windows_s) = (self.code_life_s, 2 * self.code_window_s);
        // A page asks up to one window after the next one has begun, so a code on screen is up to two windows old.
        let key = if self.is_default("code.life_s") { "code.window_s" } else { "code.life_s" };
        let problem = format_args!(
            "code.life_s = {life_s} is less than two windows (2 × code.window_s = {two_windows_s}), so codes would expire on screen"
        );
        self.unless(life_s >= two_windows_s, key, problem)?;
        // Each window needs one request that the cache does not answer, and a page that was reloaded elsewhere another.
        let (rate, least) = (self.session_requests_per_minute, 2 * 60u32.div_ceil(self.code_window_s));
        let problem = format_args!("{rate} is less than the {least} that code.window_s = {} needs", self.code_window_s);
        self.unless(!(1..least).contains(&rate), "admission.session_requests_per_minute", problem)?;
        let sign_in = ["auth.jwks_file", "auth.issuer", "auth.audience"];
        let set = sign_in.iter().chain(&["auth.login_url"]).find(|key| !self.is_default(key));
        if let (Some(set), Some(missing)) = (set, sign_in.iter().find(|key| self.is_default(key))) {
            return Err(self.refuse(set, &format!("is set, but {missing} is not: nobody could sign in")));
        }
        let admin = self.admin_address;
        // Whoever reaches the admin listener may do everything there where callers have no tokens.
        let may_be_bound = self.admin_tokens_file.is_some() || admin.ip().to_canonical().is_loopback();
        let why = "is not a loopback address, and without admin.tokens_file no other may be bound";
        self.unless(may_be_bound, "admin.address", format_args!("{admin} {why}"))?;
        self.check_tls()?;
        let has_believed = self.proxy_protocol.is_none() || !self.trusted_proxies.is_empty();
        let problem = "is set, but listen.trusted_proxies names no one to believe";
        self.unless(has_believed, "listen.proxy_protocol", problem)?;
        Ok(self)
    }

    fn check_tls(&self) -> Result<(), Ended> {
        let (certificates, keys) = (self.tls_certificates.len(), self.tls_keys.len());
        let (admin, own) = (self.admin_tls == "on", [Some(self.listen_address), Some(self.admin_address)]);
        let needs = ["tls.client_ca_file", "tls.redirect_port", "listen.redirect_address"];
        let needs = needs.into_iter().find(|key| !self.is_default(key)).or(admin.then_some("admin.tls"));
        if let Some(key) = if keys > 0 { Some("tls.keys") } else { needs } {
            self.unless(certificates > 0, key, "is set, but tls.certificates names none")?;
        }
        let problem = format_args!("{keys} keys for {certificates} certificates: name one for each");
        self.unless(keys == 0 || keys == certificates, "tls.keys", problem)?;
        let is_taken = own.contains(&self.redirect_address.filter(|address| address.port() > 0));
        self.unless(!is_taken, "listen.redirect_address", "is that of another listener")?;
        let has_use = admin || self.admin_client_ca_file.is_none();
        self.unless(has_use, "admin.client_ca_file", "is set, but admin.tls is off")
    }

    fn refuse(&self, key: &str, problem: &str) -> Ended {
        refused(self.place(key), problem)
    }

    fn unless(&self, holds: bool, key: &str, problem: impl Display) -> Result<(), Ended> {
        if holds { Ok(()) } else { Err(self.refuse(key, &problem.to_string())) }
    }

    /// A key with the place where it was set, before a message about what it names.
    pub fn place(&self, key: &str) -> String {
        format!("{}: {key}", self.source(key))
    }

    fn source(&self, key: &str) -> &str {
        self.sources.get(key).map_or("default", String::as_str)
    }

    /// Whether nobody has set this key.
    pub fn is_default(&self, key: &str) -> bool {
        !self.sources.contains_key(key)
    }

    /// Takes what can change while the process runs, and names the keys whose change waits for a restart.
    pub fn adopt(&mut self, fresh: &Config) -> Vec<&'static str> {
        let mut later = Vec::new();
        for (key, _, show, copy) in KEYS {
            if RELOADED.iter().any(|prefix| key.starts_with(prefix)) {
                copy(self, fresh);
            } else if show(self) != show(fresh) {
                later.push(*key);
            }
        }
        self.sources.clone_from(&fresh.sources);
        later
    }

    /// Each key, its value, and where that came from; null is the value of a key that is not set. Texts, numbers and
    /// lists of texts are spelled in JSON as in TOML, so `KEY = VALUE` is a line of a configuration file.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, Value, &str)> {
        KEYS.iter().map(|(key, _, show, _)| (*key, show(self), self.source(key)))
    }

    /// Reads and checks the JWKS; `None` if sign-in is not configured. At start, in `check-config`, and on SIGHUP.
    /// Errors: the file cannot be read or holds no key to check an assertion with.
    pub fn read_verifier(&self) -> Result<Option<Verifier>, Ended> {
        let (Some(path), Some(issuer), Some(audience)) = (&self.jwks_file, &self.auth_issuer, &self.auth_audience)
        else {
            return Ok(None);
        };
        let text = self.read("auth.jwks_file", path)?;
        let verifier = Verifier::from_jwks(&text, issuer, audience, &self.id_claim).map(Some);
        verifier.map_err(|error| self.refuse_file("auth.jwks_file", path, error))
    }

    /// Reads and checks the tokens of admin callers. At start, in `check-config`, and on SIGHUP.
    /// Errors: the file cannot be read, others can read it, or it is not what [`Callers`] takes.
    pub fn read_callers(&self) -> Result<Callers, Ended> {
        let Some(path) = &self.admin_tokens_file else { return Ok(Callers::default()) };
        let mode = std::fs::metadata(path).map_or(0, |file| file.mode() & 0o077);
        if mode != 0 {
            return Err(self.refuse_file("admin.tokens_file", path, "others can get at it: make it 600"));
        }
        let callers = Callers::from_toml(&self.read("admin.tokens_file", path)?);
        callers.map_err(|error| self.refuse_file("admin.tokens_file", path, error))
    }

    /// The text of a file that a key names; on SIGHUP too: nothing there may keep the thread that hears signals waiting.
    /// Errors: it cannot be read, is no regular file, not UTF-8 or too large.
    pub fn read(&self, key: &str, path: &Path) -> Result<String, Ended> {
        read_text(path, regular_file::open(path)).map_err(|(_, line)| self.refuse(key, &line))
    }

    /// What is wrong with a file that a key names.
    pub fn refuse_file(&self, key: &str, path: &Path, problem: impl Display) -> Ended {
        self.refuse(key, &format!("{}: {problem}", path.display()))
    }
}

fn read_text(path: &Path, file: io::Result<File>) -> Result<String, Ended> {
    let refused = |problem: &str| refused(path.display(), problem);
    let bytes = read_bounded(file, CONFIG_FILE_BYTES_MAX);
    let bytes = bytes.map_err(|error| refused(&format!("cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|_| refused("is not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: Flag<'static> = ("data", "--data", Some("/d"));

    fn shards(value: &str) -> Flag<'_> {
        ("runtime.shards", "--shards", Some(value))
    }

    fn admin(value: &str) -> Flag<'_> {
        ("admin.address", "--admin", Some(value))
    }

    fn variable(name: &str, value: &str) -> [(String, String); 1] {
        [(name.to_owned(), value.to_owned())]
    }

    fn with_file(text: &str) -> Result<Config, Ended> {
        join(Some(("onecode.toml", &format!("data = \"/d\"\n{text}"))), [], [], 4)
    }

    fn with_environment(name: &str, value: &str) -> Result<Config, Ended> {
        join(None, variable(name, value), [DATA], 4)
    }

    fn line(result: Result<Config, Ended>) -> String {
        let line = result.expect_err("this is refused").1;
        assert!(!line.contains('\n'), "one line: {line}");
        line
    }

    #[test]
    fn defaults_are_those_of_the_design() {
        let config = with_file("").unwrap();
        assert_eq!(config.keys_dir, Path::new("/d/keys"));
        assert_eq!(config.issuer, "CN-610100");
        assert_eq!(config.listen_address.to_string(), "127.0.0.1:8080");
        assert_eq!(config.admin_address.to_string(), "127.0.0.1:8081");
        assert_eq!((config.shards, config.cpus.clone(), &*config.driver), (4, None, "auto"));
        assert_eq!((config.code_window_s, config.code_life_s, config.session_days), (45, 120, 30));
        assert_eq!(config.jwks_file, None);
    }

    #[test]
    fn flag_beats_environment_beats_file_beats_default() {
        let file = Some(("f.toml", "data = \"/d\"\n[runtime]\nshards = 2\n"));
        let environment = || variable("ONECODE_RUNTIME_SHARDS", "3");
        let entry = |config: Config| {
            let found = config.entries().find(|(key, ..)| *key == "runtime.shards");
            found.map(|(_, value, source)| (value.to_string(), source.to_owned()))
        };
        let told = |value: &str, source: &str| Some((value.to_owned(), source.to_owned()));
        let flags = [shards("5"), ("runtime.cpus", "--cpus", None)];
        assert_eq!(entry(join(file, environment(), flags, 9).unwrap()), told("5", "--shards"));
        assert_eq!(entry(join(file, environment(), [], 9).unwrap()), told("3", "ONECODE_RUNTIME_SHARDS"));
        assert_eq!(entry(join(file, [], [], 9).unwrap()), told("2", "f.toml:3"));
        let file = Some(("f.toml", "data = \"/d\""));
        assert_eq!(entry(join(file, [], [], 9).unwrap()), told("9", "default"));
    }

    #[test]
    fn an_unknown_key_is_named_with_file_and_line() {
        assert_eq!(
            line(with_file("\n[listen]\nadress = \"127.0.0.1:1\"\n")),
            "onecode.toml:4: unknown key listen.adress; `onecode check-config` prints the known ones"
        );
        assert!(line(with_file("[lisen]\naddress = \"127.0.0.1:1\"\n")).contains(":3: unknown key lisen.address;"));
        assert!(line(with_file("jwks_file = \"x\"")).contains(":2: unknown key jwks_file;"));
        assert!(with_file("[listen]\n").is_ok());
    }

    #[test]
    fn an_unknown_variable_is_named_but_not_those_of_kubernetes_and_our_tools() {
        assert_eq!(
            line(with_environment("ONECODE_LISTEN_ADRESS", "x")),
            "environment: unknown key ONECODE_LISTEN_ADRESS; `onecode check-config` prints the known ones"
        );
        for name in ["ONECODE_PORT_8080_TCP_ADDR", "ONECODE_SERVICE_HOST", "ONECODE_BIN", "ONECODE_LOG", "PATH"] {
            assert!(!layers::is_ours(name), "{name}");
        }
        assert!(line(with_environment("ONECODE_ISSUER", "")).contains("ONECODE_ISSUER: issuer: is empty"));
    }

    #[test]
    fn every_key_is_explained_in_the_file_of_defaults_and_its_examples_are_good() {
        let (mut shown, mut section, mut explained) = (Vec::new(), String::new(), false);
        for line in DEFAULTS.lines() {
            let text = line.strip_prefix("# ").unwrap_or(line);
            if let Some(name) = line.strip_prefix('[') {
                section = name.replace(']', ".");
            }
            let key = text.split_once(" = ").map(|(name, _)| format!("{section}{name}"));
            if let Some(key) = key.filter(|key| keys().any(|known| known == key)) {
                assert!(explained, "{key} has no words of its own");
                let example = format!("{section}{text}");
                let set =
                    |(_, set, ..): &Key, raw: &Raw, _| set(&mut Config::unset(), raw).map_err(Fatal::Usage.ended());
                assert_eq!(layers::of_file("f", &example, set), Ok(()), "{example}");
                let is_set = with_file("").unwrap().entries().any(|(name, value, _)| name == key && !value.is_null());
                assert!(is_set || line.starts_with('#'), "{key} is set here and nowhere else");
                shown.push(key);
            }
            explained = line.starts_with('#');
        }
        shown.sort_unstable();
        let mut known: Vec<_> = keys().collect();
        known.sort_unstable();
        assert_eq!(shown, known);
    }

    #[test]
    fn every_key_has_its_value() {
        let full = "user = \"u\"\nlisten.trusted_proxies = [\"10.0.0.0/8\"]\nlisten.proxy_protocol = \"v2\"\nadmin.tls = \"on\"\nadmin.client_ca_file = \"c\"\nlisten.redirect_address = \"127.0.0.1:80\"\ntls.client_ca_file = \"s\"\ntls.certificates = [\"t\"]\ntls.redirect_port = 443\nadmin.tokens_file = \"t\"\n[bandwidth]\negress_bits_per_s = \"auto\"\n[assets]\ndir = \"a\"\n[auth]\njwks_file = \"j\"\nissuer = \"i\"\naudience = \"a\"\nlogin_url = \"https://l.example/?a=b\"\n[registry]\ncapacity = 9\n[journal]\ncpu = 1\n[runtime]\ncpus = \"0-15\"\n";
        let unset = |text: &str| {
            let config = with_file(text).unwrap();
            assert!(config.entries().map(|(key, ..)| key).eq(keys()), "every key is shown, set or not");
            config.entries().filter(|(_, value, _)| value.is_null()).count()
        };
        assert_eq!((unset(full), unset("")), (0, 16));
        assert_eq!(with_file("").unwrap().id_claim, "id_number");
    }

    #[test]
    fn malformed_values_are_refused_by_name() {
        let cases = [
            ("issuer = \"xi'an\"", "issuer"),
            ("issuer = \"CN-610100-123456\"", "issuer"),
            ("issuer = true", "issuer: expected a string, a whole number, or a list of strings"),
            ("listen.address = \"localhost:80\"", "listen.address"),
            ("listen = 4", "unknown key listen;"),
            (
                "admin.address = \"0.0.0.0:8081\"",
                "onecode.toml:2: admin.address: 0.0.0.0:8081 is not a loopback address",
            ),
            ("admin.host_names = [\"https://x\"]", "admin.host_names"),
            ("admin.host_names = [1]", "admin.host_names"),
            ("runtime.shards = 0", "runtime.shards: \"0\" is not a whole number from 1 to 1024"),
            ("runtime.shards = 1.5", "runtime.shards"),
            ("runtime.shards = 99999999999999999999", "runtime.shards"),
            ("runtime = { shards = 5, cpus = \"0-3\" }", "runtime.shards: 5 shards, but runtime.cpus names 4"),
            ("runtime.cpus = \"3-1\"", "runtime.cpus"),
            ("runtime.cpus = \"0,0\"", "CPU 0 twice"),
            ("runtime.cpus = \"+1\"", "runtime.cpus"),
            ("runtime.cpus = \"1024\"", "runtime.cpus"),
            ("runtime.driver = \"epoll\"", "runtime.driver"),
            ("registry.capacity = 0", "registry.capacity: \"0\" is not a whole number from 1 to 2000000000"),
            ("registry.capacity = \"all\"", "registry.capacity"),
            ("journal.cpu = 1024", "journal.cpu: \"1024\" is not a whole number from 0 to 1023"),
            ("journal.scan_days = 0", "journal.scan_days"),
            (
                "journal.disk_bytes_max = 1000",
                "journal.disk_bytes_max: \"1000\" is not a whole number from 536870912 to",
            ),
            ("journal.disk_bytes_max = \"64G\"", "journal.disk_bytes_max"),
            ("auth.session_days = 366", "auth.session_days"),
            ("auth.issuer = \"i\"", "auth.issuer: is set, but auth.jwks_file is not"),
            ("auth.login_url = \"https://x\"", "auth.login_url"),
            ("auth.jwks_file = \"j\"", "auth.jwks_file: is set, but auth.issuer is not"),
            ("auth = { jwks_file = \"j\", issuer = \"i\" }", "auth.audience is not"),
            (
                "auth = { jwks_file = \"j\", issuer = \"i\", audience = \"a\", login_url = \"javascript:x\" }",
                "login_url",
            ),
            ("code.window_s = 61", "onecode.toml:2: code.window_s: code.life_s = 120 is less than two windows"),
            ("code.life_s = 89", "onecode.toml:2: code.life_s: code.life_s = 89 is less than two windows"),
            ("code.life_s = 601", "code.life_s"),
            ("code.window_s = 4", "code.window_s"),
            ("issuer = ", "onecode.toml:2: "),
            ("data = \"/e\"", "onecode.toml:2: "),
        ];
        for (text, named) in cases {
            let line = line(with_file(text));
            assert!(line.contains(named), "{text} gave: {line}");
        }
        assert_eq!(join(None, [], [], 1).unwrap().data, Path::new("/var/lib/onecode"));
        assert!(with_file("admin.address = \"[::ffff:127.0.0.1]:8081\"").is_ok());
    }

    #[test]
    fn cpu_lists_set_the_number_of_shards() {
        let config = with_file("runtime.cpus = \"0-2,8\"").unwrap();
        assert_eq!((config.shards, config.cpus), (4, Some(Cpus(vec![0, 1, 2, 8]))));
        assert_eq!(with_file("runtime = { cpus = \"0-3\", shards = 2 }").unwrap().shards, 2);
    }

    #[test]
    fn variables_may_hold_numbers_and_lists() {
        assert_eq!(with_environment("ONECODE_CODE_WINDOW_S", "60").unwrap().code_window_s, 60);
        assert!(line(with_environment("ONECODE_CODE_WINDOW_S", "60s")).contains("\"60s\" is not a whole number"));
        let config = with_environment("ONECODE_ADMIN_HOST_NAMES", "Ops.example, b.example").unwrap();
        assert_eq!(config.admin_host_names, ["ops.example", "b.example"]);
    }

    #[test]
    fn a_wrong_value_is_refused_though_a_stronger_one_covers_it() {
        let covered = |file: &str, flags: &[Flag<'static>]| {
            let environment = variable("ONECODE_RUNTIME_SHARDS", "2");
            join(Some(("f.toml", file)), environment, [DATA].iter().chain(flags).copied(), 9)
        };
        assert!(line(covered("data = 5.0", &[])).starts_with("f.toml:1: data: expected a string, a whole number"));
        assert!(line(covered("runtime.shards = \"many\"", &[])).starts_with("f.toml:1: runtime.shards: "));
        let wrong = covered("runtime.shards = 0", &[shards("x")]);
        assert!(line(wrong).starts_with("f.toml:1: "), "the first one is named");
        let config = covered("admin.address = \"0.0.0.0:1\"\nruntime.shards = 7", &[admin("127.0.0.1:1")]).unwrap();
        assert_eq!((config.admin_address.port(), config.shards), (1, 2), "rules are for what counts");
    }

    #[test]
    fn a_flag_is_wrong_when_it_cannot_be_read_and_a_configuration_when_a_rule_refuses_it() {
        let of_a_flag = |flags: &[Flag<'_>]| join(None, [], flags.iter().copied(), 9).unwrap_err().0 == Fatal::Usage;
        for (text, malformed) in [("here", true), ("0.0.0.0:1", false)] {
            assert_eq!(of_a_flag(&[admin(text)]), malformed, "{text}");
        }
        for (number, cpus, malformed) in [("0", "0-3", true), ("5", "0-3", false), ("1", "0,0", true)] {
            let flags = [shards(number), ("runtime.cpus", "--cpus", Some(cpus))];
            assert_eq!(of_a_flag(&flags), malformed, "{number} {cpus}");
        }
    }

    #[test]
    fn a_missing_large_or_binary_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        let read = || load(Some(&path), []);
        assert!(line(read()).contains("c.toml: cannot be read"));
        std::fs::write(&path, b"data = \"\xFF\"").unwrap();
        assert!(line(read()).contains("is not UTF-8"));
        std::fs::write(&path, vec![b'#'; usize::try_from(CONFIG_FILE_BYTES_MAX).unwrap() + 1]).unwrap();
        assert!(line(read()).contains("is larger than"));
        std::fs::write(&path, "\u{feff}data = \"/d\"\r\n").unwrap();
        assert_eq!(read().unwrap().data, Path::new("/d"));
    }
}
