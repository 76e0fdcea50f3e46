//! docs/settings.md says of each setting what `--help` says: it is written from the same source.

use std::fmt::Write as _;

use clap::{Arg, Args as _, Command};
use notify_gateway::config::Settings;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/settings.md");

/// What stands between these two lines of the page is written by the test.
const BEGIN: &str = "<!-- Written by `UPDATE_DOCS=1 cargo test -p notify-gateway --test promises \
                     -- settings_page`: change gateway/src/config.rs instead. -->\n";
const END: &str = "<!-- End of what is written by the test. -->\n";

/// The width of a line of the page.
const WIDTH: usize = 100;

#[test]
fn the_page_of_the_settings_says_what_help_says() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the line with which the settings begin");
    let (written, after) = rest.split_once(END).expect("the line with which they end");
    let settings = render(&command());
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(PAGE, format!("{before}{BEGIN}{settings}{END}{after}")).unwrap();
        return;
    }
    let differ = written.lines().zip(settings.lines()).find(|(page, help)| page != help);
    assert!(
        written == settings,
        "docs/settings.md is not what the settings say; run this test with UPDATE_DOCS=1. The \
         first line that differs: {differ:?}"
    );
}

#[test]
fn each_setting_says_what_it_is_for_and_has_a_variable_and_a_heading() {
    for setting in command().get_arguments() {
        let name = flag(setting);
        assert!(setting.get_env().is_some(), "{name} has no environment variable");
        assert!(setting.get_help_heading().is_some(), "{name} has no heading");
        assert!(setting.get_value_names().is_some(), "{name} does not say what its value is");
        let text = paragraphs(setting).concat();
        assert!(text.len() > 30, "{name}: {text:?} says too little");
    }
}

#[test]
fn the_ranges_that_the_texts_name_are_those_that_are_accepted() {
    let mut checked = 0;
    for setting in command().get_arguments() {
        let text = paragraphs(setting).join(" ").replace(',', "");
        let last = text.trim_end_matches('.').rsplit(". ").next().unwrap_or_default();
        let range = last.strip_prefix("From ").and_then(|range| range.split_once(" to "));
        let bounds = match (range, last.strip_prefix("At least ")) {
            (Some((least, greatest)), _) => [Some(least), Some(greatest)],
            (None, Some(least)) => [Some(least), None],
            (None, None) => continue,
        };
        let is_accepted = |value: &str| {
            let argument = format!("{}={value}", flag(setting));
            command().try_get_matches_from(["serve", &argument]).is_ok()
        };
        for (bound, is_greatest) in bounds.into_iter().flatten().zip([false, true]) {
            assert!(is_accepted(bound), "{} does not accept {bound}", flag(setting));
            if let Some(beyond) = beyond(bound, is_greatest) {
                assert!(!is_accepted(&beyond), "{} accepts {beyond}", flag(setting));
            }
        }
        checked += 1;
    }
    assert!(checked > 15, "{checked}");
}

/// A value on the other side of a bound: twice or half a duration, one more or less of a
/// number. Nothing is below zero.
fn beyond(bound: &str, is_greatest: bool) -> Option<String> {
    let unit = bound.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = bound.split_at(unit.unwrap_or(bound.len()));
    let number: u64 = number.parse().unwrap();
    let other = match (unit.is_empty(), is_greatest) {
        _ if number == 0 => return None,
        (true, true) => number + 1,
        (true, false) => number - 1,
        (false, true) => number * 2,
        (false, false) => number / 2,
    };
    Some(format!("{other}{unit}"))
}

fn command() -> Command {
    Settings::augment_args(Command::new("serve")).disable_help_flag(true)
}

fn flag(setting: &Arg) -> String {
    format!("--{}", setting.get_long().expect("a long flag"))
}

fn environment(setting: &Arg) -> String {
    setting.get_env().unwrap().to_str().unwrap().to_owned()
}

/// The text of a setting, each paragraph on one line and ended by a full stop.
fn paragraphs(setting: &Arg) -> Vec<String> {
    let text = setting.get_long_help().or(setting.get_help()).expect("a text").to_string();
    text.split("\n\n")
        .map(|paragraph| {
            let words: Vec<_> = paragraph.split_whitespace().collect();
            let paragraph = words.join(" ");
            if paragraph.ends_with('.') { paragraph } else { paragraph + "." }
        })
        .collect()
}

/// An overview, then a section for each setting, under the headings of `--help`.
fn render(command: &Command) -> String {
    let settings: Vec<&Arg> = command.get_arguments().collect();
    let flags: Vec<_> = settings.iter().map(|setting| flag(setting)).collect();
    let mut headings: Vec<&str> = Vec::new();
    for heading in settings.iter().filter_map(|setting| setting.get_help_heading()) {
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    let of = |heading: &str| {
        let heading = heading.to_owned();
        settings.iter().filter(move |s| s.get_help_heading() == Some(heading.as_str()))
    };

    let mut page = String::from("\n| flag | environment | default |\n|---|---|---|\n");
    for setting in headings.iter().flat_map(|heading| of(heading)) {
        let (flag, environment, default) = (flag(setting), environment(setting), default(setting));
        writeln!(page, "| [`{flag}`](#{flag}) | `{environment}` | {default} |").unwrap();
    }
    for heading in &headings {
        write!(page, "\n## {heading}\n").unwrap();
        for setting in of(heading) {
            let names = setting.get_value_names().unwrap().join(" ");
            write!(
                page,
                "\n### `{}`\n\n`{}`, value `{names}`{}, default: {}\n",
                flag(setting),
                environment(setting),
                choices(setting),
                default(setting),
            )
            .unwrap();
            for paragraph in paragraphs(setting) {
                write!(page, "\n{}", wrapped(&linked(&paragraph, &flags))).unwrap();
            }
        }
    }
    page.push('\n');
    page
}

fn default(setting: &Arg) -> String {
    let values: Vec<_> =
        setting.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    match values.concat().as_str() {
        "" => "not set".to_owned(),
        value => format!("`{value}`"),
    }
}

/// The words that a setting accepts, where it accepts some words only. The page says once what a
/// `BOOL` is.
fn choices(setting: &Arg) -> String {
    let is_bool = setting.get_value_names().is_some_and(|names| names[0] == "BOOL");
    let values = if is_bool { Vec::new() } else { setting.get_possible_values() };
    let names: Vec<_> = values.iter().map(|value| format!("`{}`", value.get_name())).collect();
    if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
}

/// The text with a link at each flag that it names, outside of code.
fn linked(text: &str, flags: &[String]) -> String {
    let mut is_code = false;
    let words = text.split(' ').map(|word| {
        let was_code = is_code;
        is_code ^= word.matches('`').count() % 2 == 1;
        let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let name = bare.split('=').next().unwrap_or(bare);
        if !was_code && flags.iter().any(|flag| flag == name) {
            format!("[`{bare}`](#{name}){}", &word[bare.len()..])
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn wrapped(text: &str) -> String {
    let (mut page, mut width) = (String::new(), 0);
    for word in text.split(' ') {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > WIDTH {
            page.push('\n');
            width = 0;
        } else if width > 0 {
            page.push(' ');
            width += 1;
        }
        page.push_str(word);
        width += length;
    }
    page + "\n"
}
