//! The configuration: from flags, environment, a TOML file and defaults to one checked [`Config`].
//!
//! Precedence is flag, environment, file, default. All four meet in one list of [`KEYS`], so a key is known everywhere
//! or nowhere: the dotted name in the file (`listen.address`), with dots as underlines in the environment
//! (`ONECODE_LISTEN_ADDRESS`), and for some a flag of `serve`. Whatever is unknown, malformed or contradicts another
//! value is refused with its full name and place, in one line; a value is never guessed or dropped in silence.
//!
//! This file reads the configuration file and the JWKS and touches nothing else: whether an address can be bound or a
//! folder written is found by who binds and writes. `cli` calls it; the pure rooms take the values they need.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::limits::{
    ASSET_FILE_BYTES_DEFAULT, ASSET_FILE_BYTES_MAX, CODE_LIFE_S_MAX, CODE_WINDOW_S_MAX, CODE_WINDOW_S_MIN,
    CONFIG_FILE_BYTES_MAX, CPUS_MAX, JOURNAL_DISK_BYTES_DEFAULT, JOURNAL_DISK_BYTES_MIN, JOURNAL_SCAN_DAYS_MAX,
    REGISTRY_RESIDENTS_MAX, SESSION_DAYS_MAX, SIGNED_AHEAD_DEFAULT, SIGNED_AHEAD_MAX, ZEROCOPY_BYTES_DEFAULT,
    ZEROCOPY_BYTES_MIN,
};
use crate::service::callers::Callers;
use crate::service::sign_in::Verifier;
use crate::sys::regular_file;

mod settings;
mod values;

use settings::{ENVIRONMENT_PREFIX, Settings, Source};

/// The data folder where none is named: the place that the Filesystem Hierarchy Standard 3.0 §5.8 gives a service.
pub const DATA_FOLDER: &str = "/var/lib/onecode";

/// Every key of the file, in the order in which `check-config` prints them.
pub const KEYS: [&str; 26] = [
    "data",
    "keys_dir",
    "issuer",
    "listen.address",
    "admin.address",
    "admin.host_names",
    "admin.tokens_file",
    "runtime.shards",
    "runtime.cpus",
    "runtime.driver",
    "registry.capacity",
    "journal.cpu",
    "journal.scan_days",
    "journal.disk_bytes_max",
    "auth.jwks_file",
    "auth.issuer",
    "auth.audience",
    "auth.id_claim",
    "auth.login_url",
    "auth.session_days",
    "code.window_s",
    "code.life_s",
    "code.signed_ahead",
    "assets.dir",
    "assets.file_bytes_max",
    "assets.zerocopy_threshold_bytes",
];

/// Which driver moves the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DriverChoice {
    /// The fastest one that this kernel allows.
    Auto,
    /// `driver/uring`, or refuse to start.
    Uring,
    /// `driver/monoio`, the portable one.
    Monoio,
}

/// Who signs residents in. All of it is set or none.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "`issuer` and `audience` are what an assertion must carry as `iss` and `aud`")]
pub struct Auth {
    /// The public keys of the issuer of assertions; read again on SIGHUP.
    pub jwks_file: PathBuf,
    pub issuer: String,
    pub audience: String,
    /// Where the page sends a resident who has no session.
    pub login_url: Option<String>,
}

/// The effective configuration, checked as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "where the name of the key says it all")]
pub struct Config {
    pub data: PathBuf,
    pub keys_dir: PathBuf,
    /// The region code that goes into `iss` of each code.
    pub issuer: String,
    pub listen_address: SocketAddr,
    /// A loopback address unless callers have tokens.
    pub admin_address: SocketAddr,
    /// Who may call there; read again on SIGHUP. Without it everyone who reaches the listener is `local`.
    pub admin_tokens_file: Option<PathBuf>,
    /// Names that `Host` may have on the admin listener, lower case, beside IP literals and `localhost`.
    pub admin_host_names: Vec<String>,
    /// Shards of the public listener, 1 or more.
    pub shards: usize,
    /// The CPUs to pin the shards to, in this order and at least as many; `None` leaves the choice to the driver.
    pub cpus: Option<Vec<u16>>,
    pub driver: DriverChoice,
    /// Residents that the registry has room for; `None` is a quarter more than it has at start.
    pub registry_capacity: Option<u32>,
    /// The CPU of the journal's thread; `None`: wherever the kernel puts it.
    pub journal_cpu: Option<u16>,
    /// Days that scans and the audit are kept, 1 or more.
    pub journal_scan_days: u32,
    /// Bytes that the journal's files may take; then writes are refused.
    pub journal_disk_bytes_max: u64,
    /// Sign-in by assertion; without it `POST /person/app/session` answers 503 outside the demo.
    pub auth: Option<Auth>,
    /// The claim of an assertion that holds the ID number.
    pub id_claim: String,
    pub session_days: u32,
    pub code_window_s: u32,
    /// At least two windows.
    pub code_life_s: u32,
    /// Signatures kept for residents who are expected back, 128 bytes each; 0: none is made ahead.
    pub code_signed_ahead: u32,
    /// The operator's own pages, beside ours or in their place.
    pub assets_dir: Option<PathBuf>,
    /// The largest file of those on the wire, compressed and with its head.
    pub assets_file_bytes_max: u32,
    /// From this length on a file is sent without a copy to other hosts, where driver and kernel can.
    pub zerocopy_threshold_bytes: u32,
    sources: BTreeMap<&'static str, Source>,
}

impl Config {
    /// A key with the place where it was set, before a message about what it names.
    pub fn place(&self, key: &str) -> String {
        format!("{}: {key}", self.source(key))
    }

    fn source(&self, key: &str) -> String {
        self.sources.get(key).map_or_else(|| "default".to_owned(), Source::to_string)
    }

    /// Whether nobody has set this key.
    pub fn is_default(&self, key: &str) -> bool {
        !self.sources.contains_key(key)
    }
}

/// Values given by the flags of a command; a flag that was not given is `None`.
#[derive(clap::Args, Clone, Default, Debug)]
#[allow(missing_docs, reason = "each is the flag of its name")]
pub struct Overrides {
    #[arg(skip)]
    pub keys_dir: Option<PathBuf>,
    #[arg(skip)]
    pub issuer: Option<String>,
    /// Address of the public listener; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Address of the admin listener
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
    /// Data folder
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Shards of the public listener, one thread each
    #[arg(long, value_name = "N")]
    pub shards: Option<String>,
    /// CPUs to pin the shards to, such as 0-3,8
    #[arg(long, value_name = "LIST")]
    pub cpus: Option<String>,
    /// Driver: auto, uring or monoio
    #[arg(long, value_name = "NAME")]
    pub driver: Option<String>,
}

/// Why a configuration was refused, in one line that names the place and the fix.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ConfigError {
    /// A file cannot be read, or is no file of its kind.
    #[error("{file}: {problem}")]
    File { file: String, problem: String },
    #[error("{place}: unknown key {key}; {}", hinted(hint.as_deref()))]
    UnknownKey { place: String, key: String, hint: Option<String> },
    #[error("{key} is not set: {fix}")]
    Missing { key: &'static str, fix: &'static str },
    /// `malformed`: the key cannot have it at all, rather than not here or not beside the others.
    #[error("{place}: {key}: {problem}")]
    Value { place: String, key: &'static str, problem: String, malformed: bool },
}

fn hinted(hint: Option<&str>) -> String {
    hint.map_or("`onecode check-config` prints the known ones".into(), |hint| format!("did you mean {hint}?"))
}

impl ConfigError {
    /// Whether a flag of the command line has a value that it cannot have. What only a rule refuses, such as an admin
    /// address that others reach, is a wrong configuration wherever it was set.
    pub fn is_of_a_flag(&self) -> bool {
        match self {
            ConfigError::File { file: place, .. } | ConfigError::Value { place, malformed: true, .. } => {
                place.starts_with("--")
            }
            _ => false,
        }
    }
}

/// Reads `file`, if there is one, and joins it with `environment` and `flags`.
///
/// # Errors
/// The first thing that is wrong, in the order file, environment, values.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: Overrides,
) -> Result<Config, ConfigError> {
    let read = |path: &Path| Ok((path.display().to_string(), read_bounded(path, |path| File::open(path))?));
    let text = file.map(read).transpose()?;
    // A container's CPU quota counts here, unlike in a count of the machine's CPUs.
    let cpus_available = std::thread::available_parallelism().map_or(1, usize::from);
    join(text.as_ref().map(|(name, text)| (name.as_str(), text.as_str())), environment, flags, cpus_available)
}

/// The process's variables that start with `ONECODE_`.
///
/// # Errors
/// A value that is not UTF-8, by the name of its variable.
pub fn environment() -> Result<impl Iterator<Item = (String, String)>, ConfigError> {
    let mut variables = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Ok(name) = name.into_string() else { continue };
        if name.starts_with(ENVIRONMENT_PREFIX) {
            let not_text = |_| ConfigError::File { file: name.clone(), problem: "its value is not UTF-8".into() };
            variables.push((name.clone(), value.into_string().map_err(not_text)?));
        }
    }
    Ok(variables.into_iter())
}

impl Config {
    /// Reads and checks the JWKS; `None` if sign-in is not configured. At start, in `check-config`, and on SIGHUP.
    ///
    /// # Errors
    /// The file cannot be read or holds no key to check an assertion with.
    pub fn read_verifier(&self) -> Result<Option<Verifier>, ConfigError> {
        let Some(auth) = &self.auth else { return Ok(None) };
        let refused = |problem: String| ConfigError::File { file: self.place("auth.jwks_file"), problem };
        // Read again on SIGHUP by the thread that hears signals: nothing there may keep it waiting.
        let text = read_bounded(&auth.jwks_file, regular_file::open).map_err(|error| refused(error.to_string()))?;
        let verifier = Verifier::from_jwks(&text, &auth.issuer, &auth.audience, &self.id_claim);
        verifier.map(Some).map_err(|error| refused(format!("{}: {error}", auth.jwks_file.display())))
    }

    /// Reads and checks the tokens of admin callers. At start, in `check-config`, and on SIGHUP.
    ///
    /// # Errors
    /// The file cannot be read, others can read it, or it is not what [`Callers`] takes.
    pub fn read_callers(&self) -> Result<Callers, ConfigError> {
        use std::os::unix::fs::MetadataExt;
        let Some(path) = &self.admin_tokens_file else { return Ok(Callers::local()) };
        let refuse = |problem: String| ConfigError::File { file: path.display().to_string(), problem };
        let text = read_bounded(path, regular_file::open)?;
        let metadata = std::fs::metadata(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
        if metadata.mode() & 0o077 != 0 {
            let mode = metadata.mode() & 0o777;
            return Err(refuse(format!("mode {mode:o} lets others at the admin tokens: make it 600")));
        }
        Callers::from_toml(&text).map_err(|error| refuse(error.to_string()))
    }

    /// Each key, its value, and where that came from; null is the value of a key that is not set. Texts, numbers and
    /// lists of texts are spelled in JSON as in TOML, so `KEY = VALUE` is a line of a configuration file.
    pub fn entries(&self) -> Vec<(&'static str, serde_json::Value, String)> {
        KEYS.iter().map(|&key| (key, self.value(key).unwrap_or_default(), self.source(key))).collect()
    }

    fn value(&self, key: &str) -> Option<serde_json::Value> {
        let auth = self.auth.as_ref();
        let path = |path: &Path| path.display().to_string().into();
        Some(match key {
            "data" => path(&self.data),
            "keys_dir" => path(&self.keys_dir),
            "issuer" => self.issuer.clone().into(),
            "listen.address" => self.listen_address.to_string().into(),
            "admin.address" => self.admin_address.to_string().into(),
            "admin.host_names" => self.admin_host_names.clone().into(),
            "admin.tokens_file" => path(self.admin_tokens_file.as_ref()?),
            "runtime.shards" => self.shards.into(),
            "runtime.cpus" => {
                self.cpus.as_ref().map_or_else(|| "auto".to_owned(), |cpus| values::cpu_list(cpus)).into()
            }
            "runtime.driver" => values::driver_word(self.driver).into(),
            "registry.capacity" => self.registry_capacity?.into(),
            "journal.cpu" => self.journal_cpu?.into(),
            "journal.scan_days" => self.journal_scan_days.into(),
            "journal.disk_bytes_max" => self.journal_disk_bytes_max.into(),
            "auth.jwks_file" => path(&auth?.jwks_file),
            "auth.issuer" => auth?.issuer.clone().into(),
            "auth.audience" => auth?.audience.clone().into(),
            "auth.id_claim" => self.id_claim.clone().into(),
            "auth.login_url" => auth?.login_url.clone()?.into(),
            "auth.session_days" => self.session_days.into(),
            "code.window_s" => self.code_window_s.into(),
            "code.life_s" => self.code_life_s.into(),
            "code.signed_ahead" => self.code_signed_ahead.into(),
            "assets.dir" => path(self.assets_dir.as_ref()?),
            "assets.file_bytes_max" => self.assets_file_bytes_max.into(),
            "assets.zerocopy_threshold_bytes" => self.zerocopy_threshold_bytes.into(),
            _ => return None,
        })
    }
}

/// [`load`] without its file system: `file` is a name and a text.
fn join(
    file: Option<(&str, &str)>,
    environment: impl Iterator<Item = (String, String)>,
    flags: Overrides,
    cpus_available: usize,
) -> Result<Config, ConfigError> {
    let mut settings = Settings::default();
    if let Some((name, text)) = file {
        settings.add_file(name, text)?;
    }
    settings.add_environment(environment)?;
    settings.add_flags(flags)?;
    settings.check(cpus_available)
}

impl Settings {
    fn check(self, cpus_available: usize) -> Result<Config, ConfigError> {
        let data = PathBuf::from(self.text("data")?.unwrap_or_else(|| DATA_FOLDER.to_owned()));
        let keys_dir = self.text("keys_dir")?.map_or_else(|| data.join("keys"), PathBuf::from);
        let (shards, cpus) = self.shards(cpus_available)?;
        let (code_window_s, code_life_s) = self.code_times()?;
        let config = Config {
            keys_dir,
            data,
            issuer: self.parsed("issuer", values::issuer)?.unwrap_or_else(|| "CN-610100".to_owned()),
            listen_address: self.parsed("listen.address", values::address)?.unwrap_or(([127, 0, 0, 1], 8080).into()),
            admin_address: self.parsed("admin.address", values::address)?.unwrap_or(([127, 0, 0, 1], 8081).into()),
            admin_tokens_file: self.text("admin.tokens_file")?.map(PathBuf::from),
            admin_host_names: self
                .texts("admin.host_names", "[\"ops.example\"]", values::host_name)?
                .unwrap_or_default(),
            shards,
            cpus,
            driver: self.parsed("runtime.driver", values::driver)?.unwrap_or(DriverChoice::Auto),
            registry_capacity: self.integer("registry.capacity", 1..=REGISTRY_RESIDENTS_MAX)?,
            journal_cpu: self.integer("journal.cpu", 0..=CPUS_MAX - 1)?,
            journal_scan_days: self.integer("journal.scan_days", 1..=JOURNAL_SCAN_DAYS_MAX)?.unwrap_or(14),
            journal_disk_bytes_max: self
                .integer("journal.disk_bytes_max", JOURNAL_DISK_BYTES_MIN..=i64::MAX as u64)?
                .unwrap_or(JOURNAL_DISK_BYTES_DEFAULT),
            auth: self.auth()?,
            id_claim: self.text("auth.id_claim")?.unwrap_or_else(|| "id_number".to_owned()),
            session_days: self.integer("auth.session_days", 1..=SESSION_DAYS_MAX)?.unwrap_or(30),
            code_window_s,
            code_life_s,
            code_signed_ahead: self.integer("code.signed_ahead", 0..=SIGNED_AHEAD_MAX)?.unwrap_or(SIGNED_AHEAD_DEFAULT),
            assets_dir: self.text("assets.dir")?.map(PathBuf::from),
            assets_file_bytes_max: self
                .integer("assets.file_bytes_max", 1..=ASSET_FILE_BYTES_MAX)?
                .unwrap_or(ASSET_FILE_BYTES_DEFAULT),
            zerocopy_threshold_bytes: self
                .integer("assets.zerocopy_threshold_bytes", ZEROCOPY_BYTES_MIN..=ASSET_FILE_BYTES_MAX)?
                .unwrap_or(ZEROCOPY_BYTES_DEFAULT),
            sources: BTreeMap::new(),
        };
        // Whoever reaches the admin listener may do everything there where callers have no tokens.
        if config.admin_tokens_file.is_none() && !config.admin_address.ip().to_canonical().is_loopback() {
            let why = "is not a loopback address, and without admin.tokens_file no other may be bound";
            return Err(self.refuse("admin.address", format!("{} {why}", config.admin_address)));
        }
        if values::collide(config.listen_address, config.admin_address) {
            let (admin, listen) = (config.admin_address, config.listen_address);
            let problem = format!("{admin} and listen.address {listen} are one address: give them two ports");
            return Err(self.refuse("admin.address", problem));
        }
        Ok(Config { sources: self.into_sources(), ..config })
    }

    fn shards(&self, cpus_available: usize) -> Result<(usize, Option<Vec<u16>>), ConfigError> {
        let cpus = self.parsed("runtime.cpus", values::cpus)?.flatten();
        let shards = self.integer("runtime.shards", 1..=u32::from(CPUS_MAX))?.map(|shards| shards as usize);
        let named = cpus.as_ref().map(Vec::len);
        if let (Some(shards), Some(named)) = (shards, named)
            && shards > named
        {
            let problem = format!("{shards} shards, but runtime.cpus names {named}: each shard has a CPU of its own");
            return Err(self.refuse("runtime.shards", problem));
        }
        Ok((shards.or(named).unwrap_or(cpus_available.clamp(1, usize::from(CPUS_MAX))), cpus))
    }

    fn code_times(&self) -> Result<(u32, u32), ConfigError> {
        let window_s = self.integer("code.window_s", CODE_WINDOW_S_MIN..=CODE_WINDOW_S_MAX)?.unwrap_or(45);
        let life_s = self.integer("code.life_s", 1..=CODE_LIFE_S_MAX)?.unwrap_or(120);
        // A page asks up to one window after the next one has begun, so a code on screen is up to two windows old.
        if life_s < 2 * window_s {
            let key = if self.is_set("code.life_s") { "code.life_s" } else { "code.window_s" };
            let problem = format!(
                "code.life_s = {life_s} is less than two windows (2 × code.window_s = {}), so codes would expire on screen",
                2 * window_s
            );
            return Err(self.refuse(key, problem));
        }
        Ok((window_s, life_s))
    }

    fn auth(&self) -> Result<Option<Auth>, ConfigError> {
        let Some(jwks_file) = self.text("auth.jwks_file")? else {
            let alone = ["auth.issuer", "auth.audience", "auth.login_url"].into_iter().find(|key| self.is_set(key));
            let problem = "is set, but auth.jwks_file is not: nobody could sign in";
            return alone.map_or(Ok(None), |key| Err(self.refuse(key, problem.into())));
        };
        let with_jwks = |key: &'static str| {
            let fix = "auth.jwks_file is set, and an assertion is only good with its issuer and audience";
            self.text(key)?.ok_or(ConfigError::Missing { key, fix })
        };
        Ok(Some(Auth {
            jwks_file: jwks_file.into(),
            issuer: with_jwks("auth.issuer")?,
            audience: with_jwks("auth.audience")?,
            login_url: self.parsed("auth.login_url", values::login_url)?,
        }))
    }
}

fn read_bounded(path: &Path, open: impl Fn(&Path) -> io::Result<File>) -> Result<String, ConfigError> {
    let refuse = |problem: String| ConfigError::File { file: path.display().to_string(), problem };
    let mut bytes = Vec::new();
    let read = open(path).and_then(|file| file.take(CONFIG_FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| refuse(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > CONFIG_FILE_BYTES_MAX {
        return Err(refuse(format!("is larger than {CONFIG_FILE_BYTES_MAX} bytes, so it is the wrong file")));
    }
    String::from_utf8(bytes).map_err(|_| refuse("is not UTF-8 text".into()))
}

#[cfg(test)]
mod tests {
    use super::settings::{is_foreign, variable_of};
    use super::*;

    fn with_file(text: &str) -> Result<Config, ConfigError> {
        join(Some(("onecode.toml", &format!("data = \"/d\"\n{text}"))), std::iter::empty(), Overrides::default(), 4)
    }

    fn with_environment(name: &str, value: &str) -> Result<Config, ConfigError> {
        let flags = Overrides { data: Some("/d".into()), ..Overrides::default() };
        join(None, [(name.to_owned(), value.to_owned())].into_iter(), flags, 4)
    }

    fn line(result: Result<Config, ConfigError>) -> String {
        let line = result.expect_err("this is refused").to_string();
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
        assert_eq!((config.shards, config.cpus.clone(), config.driver), (4, None, DriverChoice::Auto));
        assert_eq!((config.code_window_s, config.code_life_s, config.session_days), (45, 120, 30));
        assert_eq!(config.auth, None);
    }

    #[test]
    fn flag_beats_environment_beats_file_beats_default() {
        let file = Some(("f.toml", "data = \"/d\"\n[runtime]\nshards = 2\n"));
        let environment = || [("ONECODE_RUNTIME_SHARDS".to_owned(), "3".to_owned())].into_iter();
        let flags = Overrides { shards: Some("5".into()), ..Overrides::default() };
        let entry = |config: Config| {
            config.entries().into_iter().find(|(key, ..)| *key == "runtime.shards").map(|(_, v, s)| (v.to_string(), s))
        };
        let shards = |value: &str, source: &str| Some((value.to_owned(), source.to_owned()));
        let joined = join(file, environment(), flags, 9).unwrap();
        assert_eq!(entry(joined), shards("5", "--shards"));
        let joined = join(file, environment(), Overrides::default(), 9).unwrap();
        assert_eq!(entry(joined), shards("3", "ONECODE_RUNTIME_SHARDS"));
        let joined = join(file, std::iter::empty(), Overrides::default(), 9).unwrap();
        assert_eq!(entry(joined), shards("2", "f.toml:3"));
        let joined = join(Some(("f.toml", "data = \"/d\"")), std::iter::empty(), Overrides::default(), 9).unwrap();
        assert_eq!(entry(joined), shards("9", "default"));
    }

    #[test]
    fn an_unknown_key_is_named_with_file_line_and_a_hint() {
        assert_eq!(
            line(with_file("\n[listen]\nadress = \"127.0.0.1:1\"\n")),
            "onecode.toml:4: unknown key listen.adress; did you mean listen.address?"
        );
        assert_eq!(
            line(with_file("[lisen]\naddress = \"127.0.0.1:1\"\n")),
            "onecode.toml:3: unknown key lisen.address; did you mean listen.address?"
        );
        assert_eq!(
            line(with_file("jwks_file = \"x\"")),
            "onecode.toml:2: unknown key jwks_file; did you mean auth.jwks_file?"
        );
        assert!(line(with_file("[zzz]\n")).contains("unknown key zzz;"));
        assert!(line(with_file("\"listen.address\" = \"x\"")).contains("unknown key \"listen.address\""));
        assert!(with_file("[listen]\n").is_ok());
    }

    #[test]
    fn an_unknown_variable_is_named_but_not_those_of_kubernetes_and_our_tools() {
        assert_eq!(
            line(with_environment("ONECODE_LISTEN_ADRESS", "x")),
            "environment: unknown key ONECODE_LISTEN_ADRESS; did you mean ONECODE_LISTEN_ADDRESS?"
        );
        for name in ["ONECODE_PORT_8080_TCP_ADDR", "ONECODE_SERVICE_HOST", "ONECODE_BIN", "ONECODE_LOG", "PATH"] {
            assert!(with_environment(name, "x").is_ok(), "{name}");
        }
        assert!(line(with_environment("ONECODE_ISSUER", "")).contains("ONECODE_ISSUER: issuer: is empty"));
    }

    #[test]
    fn every_key_has_its_variable_and_its_value() {
        let variables: std::collections::BTreeSet<String> = KEYS.map(variable_of).into();
        assert_eq!(variables.len(), KEYS.len());
        assert!(!KEYS.map(variable_of).iter().any(|name| is_foreign(&name[ENVIRONMENT_PREFIX.len()..])));
        let full = "admin.tokens_file = \"t\"\n[assets]\ndir = \"a\"\n[auth]\njwks_file = \"j\"\nissuer = \"i\"\naudience = \"a\"\nlogin_url = \"https://l.example/?a=b\"\n[registry]\ncapacity = 9\n[journal]\ncpu = 1\n";
        let unset = |text: &str| {
            let entries = with_file(text).unwrap().entries();
            assert!(entries.iter().map(|(key, ..)| *key).eq(KEYS), "every key is shown, set or not");
            entries.iter().filter(|(_, value, _)| value.is_null()).count()
        };
        assert_eq!((unset(full), unset("")), (0, 8));
        assert_eq!(with_file("").unwrap().id_claim, "id_number");
    }

    #[test]
    fn malformed_values_are_refused_by_name() {
        let cases = [
            ("issuer = \"xi'an\"", "issuer"),
            ("issuer = \"CN-610100-123456\"", "issuer"),
            ("issuer = 5", "issuer: expected a string, got a number"),
            ("listen.address = \"localhost:80\"", "listen.address"),
            ("listen = 4", "unknown key listen; did you mean listen.address?"),
            (
                "admin.address = \"0.0.0.0:8081\"",
                "onecode.toml:2: admin.address: 0.0.0.0:8081 is not a loopback address",
            ),
            ("admin.address = \"127.0.0.1:8080\"", "give them two ports"),
            ("admin.host_names = [\"https://x\"]", "admin.host_names"),
            ("admin.host_names = [1]", "admin.host_names"),
            ("runtime.shards = 0", "runtime.shards: 0 is not a whole number from 1 to 1024"),
            ("runtime.shards = 1.5", "runtime.shards"),
            ("runtime.shards = 99999999999999999999", "runtime.shards"),
            ("runtime = { shards = 5, cpus = \"0-3\" }", "runtime.shards: 5 shards, but runtime.cpus names 4"),
            ("runtime.cpus = \"3-1\"", "runtime.cpus"),
            ("runtime.cpus = \"0,0\"", "CPU 0 twice"),
            ("runtime.cpus = \"+1\"", "runtime.cpus"),
            ("runtime.cpus = \"1024\"", "runtime.cpus"),
            ("runtime.driver = \"epoll\"", "runtime.driver"),
            ("registry.capacity = 0", "registry.capacity: 0 is not a whole number from 1 to 2000000000"),
            ("registry.capacity = \"all\"", "registry.capacity"),
            ("journal.cpu = 1024", "journal.cpu: 1024 is not a whole number from 0 to 1023"),
            ("journal.scan_days = 0", "journal.scan_days"),
            ("journal.disk_bytes_max = 1000", "journal.disk_bytes_max: 1000 is not a whole number from 536870912 to"),
            ("journal.disk_bytes_max = \"64G\"", "journal.disk_bytes_max"),
            ("auth.session_days = 366", "auth.session_days"),
            ("auth.issuer = \"i\"", "auth.issuer: is set, but auth.jwks_file is not"),
            ("auth.login_url = \"https://x\"", "auth.login_url"),
            ("auth.jwks_file = \"j\"", "auth.issuer is not set"),
            ("auth = { jwks_file = \"j\", issuer = \"i\" }", "auth.audience is not set"),
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
        assert_eq!(join(None, std::iter::empty(), Overrides::default(), 1).unwrap().data, Path::new(DATA_FOLDER));
    }

    #[test]
    fn a_wildcard_collides_with_loopback_on_the_same_port_only() {
        assert!(with_file("listen.address = \"[::]:8081\"").is_err());
        assert!(with_file("listen.address = \"0.0.0.0:8081\"").is_err());
        assert!(with_file("listen.address = \"192.0.2.1:8081\"").is_ok());
        assert!(with_file("listen.address = \"127.0.0.1:0\"\nadmin.address = \"127.0.0.1:0\"").is_ok());
        assert!(with_file("admin.address = \"[::ffff:127.0.0.1]:8081\"").is_ok());
    }

    #[test]
    fn cpu_lists_set_the_number_of_shards() {
        let config = with_file("runtime.cpus = \"0-2,8\"").unwrap();
        assert_eq!((config.shards, config.cpus), (4, Some(vec![0, 1, 2, 8])));
        assert_eq!(with_file("runtime = { cpus = \"0-3\", shards = 2 }").unwrap().shards, 2);
        assert_eq!(with_file("runtime.cpus = \"auto\"").unwrap().cpus, None);
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
        let covered = |file: &str, flags: Overrides| {
            let environment = [("ONECODE_RUNTIME_SHARDS".to_owned(), "2".to_owned())].into_iter();
            join(Some(("f.toml", file)), environment, flags, 9)
        };
        let data = || Overrides { data: Some("/d".into()), ..Overrides::default() };
        assert_eq!(line(covered("data = 5", data())), "f.toml:1: data: expected a string, got a number");
        assert!(line(covered("runtime.shards = \"many\"", data())).starts_with("f.toml:1: runtime.shards: "));
        let shards = Overrides { shards: Some("x".into()), ..data() };
        assert!(line(covered("runtime.shards = 0", shards)).starts_with("f.toml:1: "), "the first one is named");
        let admin = Overrides { admin: Some("127.0.0.1:1".into()), ..data() };
        let config = covered("admin.address = \"0.0.0.0:1\"\nruntime.shards = 7", admin).unwrap();
        assert_eq!((config.admin_address.port(), config.shards), (1, 2), "rules are for what counts");
    }

    #[test]
    fn a_flag_is_wrong_when_it_cannot_be_read_and_a_configuration_when_a_rule_refuses_it() {
        let of_a_flag = |flags| join(None, std::iter::empty(), flags, 9).unwrap_err().is_of_a_flag();
        for (text, malformed) in [("here", true), ("0.0.0.0:1", false), ("127.0.0.1:8080", false)] {
            assert_eq!(of_a_flag(Overrides { admin: Some(text.into()), ..Overrides::default() }), malformed, "{text}");
        }
        for (shards, cpus, malformed) in [("0", "0-3", true), ("5", "0-3", false), ("1", "0,0", true)] {
            let flags = Overrides { shards: Some(shards.into()), cpus: Some(cpus.into()), ..Overrides::default() };
            assert_eq!(of_a_flag(flags), malformed, "{shards} {cpus}");
        }
    }

    #[test]
    fn a_missing_large_or_binary_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        let read = || load(Some(&path), std::iter::empty(), Overrides::default());
        assert!(line(read()).contains("c.toml: cannot be read"));
        std::fs::write(&path, b"data = \"\xFF\"").unwrap();
        assert!(line(read()).contains("is not UTF-8"));
        std::fs::write(&path, vec![b'#'; usize::try_from(CONFIG_FILE_BYTES_MAX).unwrap() + 1]).unwrap();
        assert!(line(read()).contains("is larger than"));
        std::fs::write(&path, "\u{feff}data = \"/d\"\r\n").unwrap();
        assert_eq!(read().unwrap().data, Path::new("/d"));
    }
}
