//! The command line: `floor --port N --answer FILE [--cpu N] [--close]`.

use std::path::PathBuf;

/// What was asked for.
pub struct Options {
    /// Port on 127.0.0.1.
    pub port: u16,
    /// The whole answer, head and body, as it goes over the wire.
    pub answer: PathBuf,
    /// The CPU to stay on.
    pub cpu: Option<usize>,
    /// Close each connection after its first answer.
    pub closing: bool,
}

impl Options {
    /// Reads the command line; the error says what is wrong with it.
    pub fn from_arguments() -> Result<Options, String> {
        let mut options = Options { port: 0, answer: PathBuf::new(), cpu: None, closing: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{name} wants a value"));
            match name.as_str() {
                "--port" => options.port = number(&name, &value()?)?,
                "--answer" => options.answer = value()?.into(),
                "--cpu" => options.cpu = Some(number(&name, &value()?)?),
                "--close" => options.closing = true,
                _ => return Err(format!("no option {name}; usage: floor --port N --answer FILE [--cpu N] [--close]")),
            }
        }
        match std::fs::metadata(&options.answer) {
            Ok(_) => Ok(options),
            Err(error) => Err(format!("--answer {}: {error}", options.answer.display())),
        }
    }
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name} {text}: not a number in range"))
}
