//! A page of `docs/` as a script: its fenced blocks, in their order, do what a reader does.
//!
//! What a block is for stands in its info string, of which GitHub shows nothing:
//!
//! | block | what is done |
//! |---|---|
//! | any language with `title="app.py"` | written to this file; `append` adds to it |
//! | `sh` | run by bash. Variables and the directory stay for the next one |
//! | `sh` with `terminal="gateway"` | run in a new terminal, which knows no variable, and left running |
//! | `sql` | typed into psql, at `$DATABASE_URL` |
//! | `text` | lines that the block before has said; `…` stands for any text |
//! | `text` with `terminal="gateway"` | lines that this terminal says, now or soon |
//! | any with `skip="why"` | nothing |
//! | any with `use="for what"` | nothing: the test takes it by that name ([`used`]) |
//!
//! A block of any other language is an error, unless the test has said that it uses it by
//! itself ([`Guide::uses`]).

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tempfile::TempDir;

use super::PATIENCE;

/// Where the pages are.
const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

/// How long one block of commands may take.
const COMMANDS: Duration = Duration::from_secs(120);

/// One fenced block of a page.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    /// The line of its fence in the file.
    line: usize,
    /// The heading above it.
    section: String,
    language: String,
    attributes: BTreeMap<String, String>,
    pub(crate) text: String,
}

/// The blocks of a page of `docs/`.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    parse(&fs::read_to_string(Path::new(DOCS).join(page)).unwrap())
}

/// The block of a page that is written to the file `title`.
pub(crate) fn file_of(page: &str, title: &str) -> String {
    let found = blocks(page).into_iter().find(|block| block.attribute("title") == Some(title));
    found.unwrap_or_else(|| panic!("{page} has no file {title}")).text
}

/// The block of a page that a test uses by itself.
pub(crate) fn used(page: &str, name: &str) -> String {
    let found = blocks(page).into_iter().find(|block| block.attribute("use") == Some(name));
    found.unwrap_or_else(|| panic!("{page} has no block for {name}")).text
}

fn parse(markdown: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut section = String::new();
    let mut open: Option<Block> = None;
    for (number, line) in markdown.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                let (language, rest) = info.split_once(' ').unwrap_or((info, ""));
                open = Some(Block {
                    line: number + 1,
                    section: section.clone(),
                    language: language.to_owned(),
                    attributes: attributes(rest),
                    text: String::new(),
                });
            }
            (None, None) => {
                if let Some(heading) = line.trim_start_matches('#').strip_prefix(' ')
                    && line.starts_with('#')
                {
                    heading.clone_into(&mut section);
                }
            }
            (Some(_), Some("")) => found.extend(open.take()),
            (Some(block), _) => {
                block.text += line;
                block.text.push('\n');
            }
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    found
}

/// `title="app.py" append` as names and values.
fn attributes(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest.find(['=', ' ']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let (value, after) = match after.strip_prefix("=\"") {
            Some(quoted) => quoted.split_once('"').expect("a closing quote"),
            None => ("", after),
        };
        found.insert(name.to_owned(), value.to_owned());
        rest = after.trim_start();
    }
    found
}

impl Block {
    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }
}

/// A reader who follows a page.
pub(crate) struct Guide {
    page: String,
    blocks: std::vec::IntoIter<Block>,
    directory: TempDir,
    environment: Vec<(String, String)>,
    replacements: Vec<(String, String)>,
    used: Vec<&'static str>,
    terminals: BTreeMap<String, Terminal>,
    said: String,
}

impl Guide {
    /// The reader has a checkout in the directory `notify-gateway`, built, and stands in it
    /// or beside it, as the page says. `environment` is what the reader's machine has set.
    pub(crate) fn follow(page: &str, environment: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let checkout = directory.path().join("notify-gateway");
        fs::create_dir_all(checkout.join("target/release")).unwrap();
        let link = |target: &Path, name: &str| {
            std::os::unix::fs::symlink(target, checkout.join(name)).unwrap();
        };
        let binary = Path::new(env!("CARGO_BIN_EXE_notify-gateway"));
        link(binary, "target/release/notify-gateway");
        link(&Path::new(DOCS).join("../frontend"), "frontend");
        let environment = environment.iter().map(|&(name, value)| (name.into(), value.into()));
        Self {
            page: page.to_owned(),
            blocks: blocks(page).into_iter(),
            environment: environment.collect(),
            directory,
            replacements: Vec::new(),
            used: Vec::new(),
            terminals: BTreeMap::new(),
            said: String::new(),
        }
    }

    /// What the page has as an example is something else on this machine.
    pub(crate) fn replace(&mut self, example: &str, own: &str) {
        let is_there = self.blocks.as_slice().iter().any(|block| block.text.contains(example));
        assert!(is_there, "{} has no {example} any more", self.page);
        self.replacements.push((example.to_owned(), own.to_owned()));
    }

    /// Blocks of this language are the test's own affair.
    pub(crate) fn uses(&mut self, language: &'static str) {
        self.used.push(language);
    }

    /// Follows the page to its end.
    pub(crate) fn finish(&mut self) {
        while let Some(block) = self.blocks.next() {
            self.act(&block);
        }
    }

    /// Follows the page up to this heading.
    pub(crate) fn up_to(&mut self, heading: &str) {
        let is_there = self.blocks.as_slice().iter().any(|block| block.section == heading);
        assert!(is_there, "{} has no block under {heading:?}", self.page);
        while self.blocks.as_slice()[0].section != heading {
            let block = self.blocks.next().unwrap();
            self.act(&block);
        }
    }

    /// A block as it is on this machine.
    fn own(&self, block: &Block) -> String {
        let replace = |text: String, (from, to): &(String, String)| text.replace(from, to);
        self.replacements.iter().fold(block.text.clone(), replace)
    }

    fn act(&mut self, block: &Block) {
        let place = format!("docs/{}, line {}", self.page, block.line);
        let text = self.own(block);
        if block.attribute("skip").is_some() || block.attribute("use").is_some() {
            return;
        }
        if let Some(title) = block.attribute("title") {
            self.write(title, &text, block.attribute("append").is_some());
            return;
        }
        match (block.language.as_str(), block.attribute("terminal")) {
            ("sh", None) => self.said = self.run(&place, &text),
            ("sh", Some(name)) => self.open(name, &text),
            ("sql", None) => {
                let file = self.directory.path().join(".typed.sql");
                fs::write(&file, &text).unwrap();
                let psql = format!(
                    "psql --no-psqlrc -v ON_ERROR_STOP=1 -f '{}' \"$DATABASE_URL\"",
                    file.display()
                );
                self.said = self.run(&place, &psql);
            }
            ("text", None) => expect(&place, &text, &self.said),
            ("text", Some(name)) => self.terminals[name].says(&place, &text),
            (language, _) => {
                assert!(self.used.contains(&language), "{place}: what is to be done with it?");
            }
        }
    }

    fn write(&self, title: &str, text: &str, is_more: bool) {
        let path = self.place().join(title);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let before = if is_more { fs::read_to_string(&path).unwrap() } else { String::new() };
        fs::write(path, before + text).unwrap();
    }

    /// The directory in which the last block of commands has ended.
    fn place(&self) -> PathBuf {
        let file = self.directory.path().join(".place");
        fs::read_to_string(file)
            .map_or_else(|_| self.directory.path().to_owned(), |path| path.trim_end().into())
    }

    fn bash(&self, script: &str, place: &Path, said: &Path) -> Child {
        let output = fs::File::create(said).unwrap();
        let errors = output.try_clone().unwrap();
        let mut command = Command::new("bash");
        command.args(["-c", script]).current_dir(place);
        // What the tests' own caller has set would reach the commands of the page.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if ["GATEWAY_", "JWT_", "PG"].iter().any(|start| name.starts_with(start))
                || name.contains("DATABASE_URL")
            {
                command.env_remove(name);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        command.spawn().unwrap()
    }

    /// Runs commands to their end, and returns what they say.
    fn run(&self, place: &str, commands: &str) -> String {
        let kept = self.directory.path().display();
        // Everything that is set is exported, so that the next block has it.
        let script = format!(
            "set -a; [ ! -e '{kept}/.kept' ] || . '{kept}/.kept'; set -e -o pipefail\n{commands}\n\
             set +e; declare -px > '{kept}/.kept'; pwd > '{kept}/.place'"
        );
        let said = self.directory.path().join(".said");
        let mut running = Running(self.bash(&script, &self.place(), &said));
        let began = Instant::now();
        let status = loop {
            match running.0.try_wait().unwrap() {
                Some(status) => break status,
                None if began.elapsed() > COMMANDS => break Default::default(),
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        let said = String::from_utf8_lossy(&fs::read(&said).unwrap()).into_owned();
        assert!(began.elapsed() <= COMMANDS, "{place}: it does not end\n{commands}\n{said}");
        assert!(status.success(), "{place}: {status}\n{commands}\n{said}");
        said
    }

    /// Opens a new terminal in the reader's first directory.
    fn open(&mut self, name: &str, commands: &str) {
        // The former one of that name has ended, or is closed for this one.
        self.terminals.remove(name);
        let said = self.directory.path().join(format!(".terminal-{name}"));
        let script = format!("set -e\n{commands}");
        let child = self.bash(&script, self.directory.path(), &said);
        self.terminals.insert(name.to_owned(), Terminal { _child: Running(child), said });
    }

    /// Runs commands that are not in the page, where the reader stands, and returns what they say.
    pub(crate) fn also(&self, commands: &str) -> String {
        self.run("beside the page", commands)
    }
}

impl Drop for Guide {
    fn drop(&mut self) {
        if thread::panicking() {
            for (name, terminal) in &self.terminals {
                println!("=== the terminal {name} ===\n{}", terminal.text());
            }
        }
    }
}

/// A bash that does not outlive the test, nor anything that it has started.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.0.id().try_into().unwrap());
        let _gone = killpg(group, Signal::SIGKILL);
        let _status = self.0.wait();
    }
}

struct Terminal {
    _child: Running,
    said: PathBuf,
}

impl Terminal {
    fn text(&self) -> String {
        let mut file = fs::File::open(&self.said).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn says(&self, place: &str, expected: &str) {
        let began = Instant::now();
        while first_missing(expected, &self.text()).is_some() && began.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(20));
        }
        expect(place, expected, &self.text());
    }
}

fn expect(place: &str, expected: &str, said: &str) {
    if let Some(line) = first_missing(expected, said) {
        panic!("{place}: nobody says\n{line}\nbut\n{said}");
    }
}

/// The first of the expected lines that is not among those that were said, in that order.
fn first_missing<'a>(expected: &'a str, said: &str) -> Option<&'a str> {
    let mut said = said.lines();
    let mut expected = expected.lines().filter(|line| !line.trim().is_empty());
    expected.find(|line| !said.any(|found| fits(line.trim(), found.trim())))
}

/// Whether a line is as expected; `…` stands for any text.
fn fits(expected: &str, found: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = parts.next().and_then(|first| found.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

#[test]
fn a_page_is_read_as_it_is_meant() {
    let found = parse(
        "# A\n\n```sh terminal=\"one\"\nls\n```\n\n## B\n\n```py title=\"a/b.py\" append\nx = 1\n\n```\n",
    );
    let (first, second) = (&found[0], &found[1]);
    assert_eq!((first.section.as_str(), first.language.as_str(), first.line), ("A", "sh", 3));
    assert_eq!(first.attribute("terminal"), Some("one"));
    assert_eq!((second.attribute("title"), second.attribute("append")), (Some("a/b.py"), Some("")));
    assert_eq!((second.section.as_str(), second.text.as_str()), ("B", "x = 1\n\n"));
}

#[test]
fn lines_are_compared_but_for_what_is_left_out() {
    assert_eq!(first_missing("a\n\nc … e\n", "a\nb\n c d e\n"), None);
    assert_eq!(first_missing("c\na\n", "a\nb\nc\n"), Some("a"));
    assert_eq!(first_missing("c … e\n", "c d f\n"), Some("c … e"));
    assert_eq!(first_missing("c\n", "c d\n"), Some("c"));
    assert_eq!(first_missing("…d\n", "c d\n"), None);
    assert_eq!(first_missing("a…b…c", "a b b c"), None);
}
