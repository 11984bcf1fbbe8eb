//! Writes the man pages and the completions of shells into a folder, from what the command line says of itself:
//! `cargo run --example shell -- FOLDER`.

use std::path::PathBuf;
use std::{env, fs, io};

use clap::CommandFactory as _;
use clap_complete::Shell::{Bash, Fish, Zsh};
use onecode::cli::Cli;

fn main() -> io::Result<()> {
    let folder = PathBuf::from(env::args_os().nth(1).ok_or_else(|| io::Error::other("usage: shell FOLDER"))?);
    let (pages, completions) = (folder.join("man"), folder.join("completions"));
    fs::create_dir_all(&pages)?;
    fs::create_dir_all(&completions)?;
    for shell in [Bash, Fish, Zsh] {
        clap_complete::generate_to(shell, &mut Cli::command(), "onecode", &completions)?;
    }
    // `help` has nothing that the pages do not have.
    let command = Cli::command().disable_help_subcommand(true);
    let command = command.mut_subcommands(|command| command.disable_help_subcommand(true));
    clap_mangen::generate_to(command, &pages)?;
    for page in fs::read_dir(&pages)? {
        let path = page?.path();
        fs::write(&path, kept_in_columns(&fs::read_to_string(&path)?))?;
    }
    Ok(())
}

/// The page with its tables and examples, which are what is indented, as they stand: roff would fill their lines.
fn kept_in_columns(page: &str) -> String {
    let (mut kept, mut is_table) = (String::new(), false);
    for line in page.lines() {
        if line.starts_with(' ') != is_table {
            is_table = !is_table;
            kept += if is_table { ".nf\n" } else { ".fi\n" };
        }
        kept += line;
        kept += "\n";
    }
    if is_table { kept + ".fi\n" } else { kept }
}
