//! `onecode check-config`: what a configuration comes to, or why it is refused.
//!
//! It refuses what `serve` would refuse before it makes anything: CPUs, driver, JWKS, admin tokens and pages too.
//! It binds and writes nothing.

use super::{Common, Done, privileges, serve};
use crate::config::Config;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

pub fn run(args: &Args) -> Done {
    let config = args.common.place.load(&[])?;
    serve::prepare(&config)?;
    privileges::leave_root(&config)?;
    serve::check_files(&config)?;
    super::print(if args.common.json { json(&config) } else { text(&config) }.as_bytes())?;
    Ok(true)
}

/// Lines that are themselves a configuration file.
fn text(config: &Config) -> String {
    let line = |(key, value, source): (&str, serde_json::Value, &str)| match value {
        serde_json::Value::Null => format!("# {key} is not set\n"),
        value => format!("{key} = {value}  # {source}\n"),
    };
    config.entries().map(line).collect()
}

fn json(config: &Config) -> String {
    let entry = |(key, value, source)| (key, serde_json::json!({ "value": value, "source": source }));
    format!("{}\n", config.entries().map(entry).collect::<serde_json::Value>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn what_is_printed_is_a_configuration_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, "data = \"/a \\\"b\\\"\"\nadmin.host_names = [\"ops.example\"]\ncode.window_s = 60\n")
            .unwrap();
        let read = || config::load(Some(&path), []).unwrap();
        let first = read();
        let parsed: serde_json::Value = serde_json::from_str(&json(&first)).unwrap();
        assert_eq!(parsed["code.window_s"]["value"], 60);
        assert_eq!(parsed["admin.host_names"]["value"][0], "ops.example");
        assert_eq!(parsed["issuer"]["source"], "default");
        assert!(
            parsed["auth.jwks_file"]["value"].is_null() && text(&first).contains("\n# auth.jwks_file is not set\n")
        );
        std::fs::write(&path, text(&first)).unwrap();
        let values = |config: &Config| config.entries().map(|(k, v, _)| (k, v)).collect::<Vec<_>>();
        assert_eq!(values(&read()), values(&first));
    }
}
