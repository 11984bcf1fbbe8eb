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
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::limits::{
    ASSET_FILE_BYTES_DEFAULT, ASSET_FILE_BYTES_MAX, CODE_LIFE_S_MAX, CODE_WINDOW_S_MAX, CODE_WINDOW_S_MIN,
    CONFIG_FILE_BYTES_MAX, CPUS_MAX, SESSION_DAYS_MAX,
};
use crate::service::sign_in::Verifier;

mod settings;
mod values;

use settings::{ENVIRONMENT_PREFIX, Settings, Source};

/// The data folder where none is named: the place that the Filesystem Hierarchy Standard 3.0 §5.8 gives a service.
pub const DATA_FOLDER: &str = "/var/lib/onecode";

/// Every key of the file, in the order in which `check-config` prints them.
pub const KEYS: [&str; 19] = [
    "data",
    "keys_dir",
    "issuer",
    "listen.address",
    "admin.address",
    "admin.host_names",
    "runtime.shards",
    "runtime.cpus",
    "runtime.driver",
    "auth.jwks_file",
    "auth.issuer",
    "auth.audience",
    "auth.id_claim",
    "auth.login_url",
    "auth.session_days",
    "code.window_s",
    "code.life_s",
    "assets.dir",
    "assets.file_bytes_max",
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
pub struct Auth {
    /// The public keys of the issuer of assertions; read again on SIGHUP.
    pub jwks_file: PathBuf,
    /// The `iss` that an assertion must carry.
    pub issuer: String,
    /// The `aud` that an assertion must carry.
    pub audience: String,
    /// The claim that holds the ID number.
    pub id_claim: String,
    /// Where the page sends a resident who has no session.
    pub login_url: Option<String>,
}

/// The effective configuration, checked as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The data folder.
    pub data: PathBuf,
    /// Where keys are kept; by default `keys` in the data folder.
    pub keys_dir: PathBuf,
    /// The region code that goes into `iss` of each code.
    pub issuer: String,
    /// The public listener.
    pub listen_address: SocketAddr,
    /// The admin listener; always a loopback address.
    pub admin_address: SocketAddr,
    /// Names that `Host` may have on the admin listener, lower case, beside IP literals and `localhost`.
    pub admin_host_names: Vec<String>,
    /// Shards of the public listener, 1 or more.
    pub shards: usize,
    /// The CPUs to pin the shards to, in this order and at least as many; `None` leaves the choice to the driver.
    pub cpus: Option<Vec<u16>>,
    /// The driver.
    pub driver: DriverChoice,
    /// Sign-in by assertion; without it `POST /person/app/session` answers 503 outside the demo.
    pub auth: Option<Auth>,
    /// Days that a session lives, 1..=365.
    pub session_days: u32,
    /// Seconds of a window.
    pub code_window_s: u32,
    /// Seconds that a code lives; at least two windows.
    pub code_life_s: u32,
    /// The operator's own pages, beside ours or in their place.
    pub assets_dir: Option<PathBuf>,
    /// The largest file of those on the wire, compressed and with its head.
    pub assets_file_bytes_max: u32,
    sources: BTreeMap<&'static str, Source>,
}

impl Config {
    /// Whether nobody has set this key.
    pub fn is_default(&self, key: &str) -> bool {
        !self.sources.contains_key(key)
    }
}

/// Values given by the flags of a command; a flag that was not given is `None`.
#[derive(Clone, Default, Debug)]
pub struct Overrides {
    /// `--data`.
    pub data: Option<PathBuf>,
    /// `--keys-dir`.
    pub keys_dir: Option<PathBuf>,
    /// `--issuer`.
    pub issuer: Option<String>,
    /// `--listen`.
    pub listen: Option<String>,
    /// `--admin`.
    pub admin: Option<String>,
    /// `--shards`.
    pub shards: Option<String>,
    /// `--cpus`.
    pub cpus: Option<String>,
    /// `--driver`.
    pub driver: Option<String>,
}

/// Why a configuration was refused. Displays as one line that names the place and the fix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// A file cannot be read, or is no file of its kind.
    File {
        /// The file as it was named.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A key that onecode does not have.
    UnknownKey {
        /// File and line, or the environment.
        place: String,
        /// The full dotted name, or the variable.
        key: String,
        /// A key whose name is close.
        hint: Option<String>,
    },
    /// A key that must be set is not.
    Missing {
        /// The key.
        key: &'static str,
        /// How to set it.
        fix: &'static str,
    },
    /// A value that its key cannot have, by itself or beside another value.
    Value {
        /// Where the value was set.
        place: String,
        /// The key.
        key: &'static str,
        /// What was expected and what came.
        problem: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::File { file, problem } => write!(f, "{file}: {problem}"),
            ConfigError::UnknownKey { place, key, hint: Some(hint) } => {
                write!(f, "{place}: unknown key {key}; did you mean {hint}?")
            }
            ConfigError::UnknownKey { place, key, hint: None } => {
                write!(f, "{place}: unknown key {key}; `onecode check-config` prints the known ones")
            }
            ConfigError::Missing { key, fix } => write!(f, "{key} is not set: {fix}"),
            ConfigError::Value { place, key, problem } => write!(f, "{place}: {key}: {problem}"),
        }
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// Whether it is a flag of the command line that is wrong.
    pub fn is_of_a_flag(&self) -> bool {
        match self {
            ConfigError::File { file: place, .. } | ConfigError::Value { place, .. } => place.starts_with("--"),
            ConfigError::UnknownKey { .. } | ConfigError::Missing { .. } => false,
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
    let text = file.map(|path| read_bounded(path).map(|text| (path.display().to_string(), text))).transpose()?;
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
        let text = read_bounded(&auth.jwks_file)?;
        let verifier = Verifier::from_jwks(&text, &auth.issuer, &auth.audience, &auth.id_claim).map_err(|error| {
            ConfigError::File { file: auth.jwks_file.display().to_string(), problem: error.to_string() }
        })?;
        Ok(Some(verifier))
    }

    /// Each key, its value, and where that came from; null is the value of a key that is not set. Texts, numbers and
    /// lists of texts are spelled in JSON as in TOML, so `KEY = VALUE` is a line of a configuration file.
    pub fn entries(&self) -> Vec<(&'static str, serde_json::Value, String)> {
        let entry = |&key| {
            let source = self.sources.get(key).map_or_else(|| "default".to_owned(), Source::to_string);
            (key, self.value(key).unwrap_or_default(), source)
        };
        KEYS.iter().map(entry).collect()
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
            "runtime.shards" => self.shards.into(),
            "runtime.cpus" => {
                self.cpus.as_ref().map_or_else(|| "auto".to_owned(), |cpus| values::cpu_list(cpus)).into()
            }
            "runtime.driver" => values::driver_word(self.driver).into(),
            "auth.jwks_file" => path(&auth?.jwks_file),
            "auth.issuer" => auth?.issuer.clone().into(),
            "auth.audience" => auth?.audience.clone().into(),
            "auth.id_claim" => auth?.id_claim.clone().into(),
            "auth.login_url" => auth?.login_url.clone()?.into(),
            "auth.session_days" => self.session_days.into(),
            "code.window_s" => self.code_window_s.into(),
            "code.life_s" => self.code_life_s.into(),
            "assets.dir" => path(self.assets_dir.as_ref()?),
            "assets.file_bytes_max" => self.assets_file_bytes_max.into(),
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
        let data = self.text("data")?.map_or_else(|| PathBuf::from(DATA_FOLDER), PathBuf::from);
        let keys_dir = self.text("keys_dir")?.map_or_else(|| data.join("keys"), PathBuf::from);
        let (shards, cpus) = self.shards(cpus_available)?;
        let (code_window_s, code_life_s) = self.code_times()?;
        let config = Config {
            keys_dir,
            data,
            issuer: self.parsed("issuer", values::issuer)?.unwrap_or_else(|| "CN-610100".to_owned()),
            listen_address: self.parsed("listen.address", values::address)?.unwrap_or(([127, 0, 0, 1], 8080).into()),
            admin_address: self.parsed("admin.address", values::loopback)?.unwrap_or(([127, 0, 0, 1], 8081).into()),
            admin_host_names: self.host_names()?,
            shards,
            cpus,
            driver: self.parsed("runtime.driver", values::driver)?.unwrap_or(DriverChoice::Auto),
            auth: self.auth()?,
            session_days: self.integer("auth.session_days", 1..=SESSION_DAYS_MAX)?.unwrap_or(30),
            code_window_s,
            code_life_s,
            assets_dir: self.text("assets.dir")?.map(PathBuf::from),
            assets_file_bytes_max: self
                .integer("assets.file_bytes_max", 1..=ASSET_FILE_BYTES_MAX)?
                .unwrap_or(ASSET_FILE_BYTES_DEFAULT),
            sources: BTreeMap::new(),
        };
        if values::collide(config.listen_address, config.admin_address) {
            let problem = format!(
                "{} and listen.address {} are one address: give them two ports",
                config.admin_address, config.listen_address
            );
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

    fn host_names(&self) -> Result<Vec<String>, ConfigError> {
        let key = "admin.host_names";
        let Some(names) = self.texts(key, "[\"ops.example\"]")? else { return Ok(Vec::new()) };
        let is_name = |name: &String| {
            let label_ok = |label: &str| {
                !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            };
            name.len() <= 253 && name.split('.').all(label_ok)
        };
        match names.iter().find(|name| !is_name(name)) {
            Some(name) => Err(self.refuse(key, format!("{name:?} is not a host name (no scheme, no port)"))),
            None => Ok(names.into_iter().map(|name| name.to_ascii_lowercase()).collect()),
        }
    }

    fn auth(&self) -> Result<Option<Auth>, ConfigError> {
        let Some(jwks_file) = self.text("auth.jwks_file")? else {
            for key in ["auth.issuer", "auth.audience", "auth.id_claim", "auth.login_url"] {
                if self.is_set(key) {
                    return Err(self.refuse(key, "is set, but auth.jwks_file is not: nobody could sign in".into()));
                }
            }
            return Ok(None);
        };
        let with_jwks = |key: &'static str| {
            let fix = "auth.jwks_file is set, and an assertion is only good with its issuer and audience";
            self.text(key)?.ok_or(ConfigError::Missing { key, fix })
        };
        Ok(Some(Auth {
            jwks_file: jwks_file.into(),
            issuer: with_jwks("auth.issuer")?,
            audience: with_jwks("auth.audience")?,
            id_claim: self.text("auth.id_claim")?.unwrap_or_else(|| "id_number".to_owned()),
            login_url: self.parsed("auth.login_url", values::login_url)?,
        }))
    }
}

fn read_bounded(path: &Path) -> Result<String, ConfigError> {
    use std::io::Read;
    let refuse = |problem: String| ConfigError::File { file: path.display().to_string(), problem };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let mut bounded = file.take(CONFIG_FILE_BYTES_MAX + 1);
    bounded.read_to_end(&mut bytes).map_err(|error| refuse(format!("cannot be read: {error}")))?;
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
        let full = "[assets]\ndir = \"a\"\n[auth]\njwks_file = \"j\"\nissuer = \"i\"\naudience = \"a\"\nlogin_url = \"https://l.example/?a=b\"\n";
        let unset = |text: &str| {
            let entries = with_file(text).unwrap().entries();
            assert!(entries.iter().map(|(key, ..)| *key).eq(KEYS), "every key is shown, set or not");
            entries.iter().filter(|(_, value, _)| value.is_null()).count()
        };
        assert_eq!((unset(full), unset("")), (0, 6));
    }

    #[test]
    fn malformed_values_are_refused_by_name() {
        let cases = [
            ("issuer = \"xi'an\"", "issuer"),
            ("issuer = \"CN-610100-123456\"", "issuer"),
            ("issuer = 5", "issuer: expected a string, got a number"),
            ("listen.address = \"localhost:80\"", "listen.address"),
            ("listen = 4", "unknown key listen"),
            ("admin.address = \"0.0.0.0:8081\"", "not a loopback address"),
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
