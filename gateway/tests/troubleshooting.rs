//! Readers look for a text that the gateway has shown them: docs/troubleshooting.md quotes it word
//! for word.

use std::path::Path;

const PAGE: &str = include_str!("../../docs/troubleshooting.md");

#[test]
fn every_text_that_the_page_quotes_is_in_the_source() {
    let source = source();
    let mut quoted = 0;
    for row in PAGE.lines().filter_map(|line| line.strip_prefix("| ")) {
        let cell = row.split(" | ").next().unwrap();
        // What `check` and a `detail` say stands in italics, a reason of `/readyz` in backquotes.
        let is_reason = cell.starts_with('`') && cell.contains(' ') && !cell.contains('*');
        let texts: Vec<_> = if is_reason {
            cell.split('`').skip(1).step_by(2).collect()
        } else {
            cell.split('*').skip(1).step_by(2).collect()
        };
        for text in texts {
            // What stands for something else is `…`; code is quoted in backquotes.
            for part in text.replace('`', "").split('…').map(str::trim).filter(|p| !p.is_empty())
            {
                assert!(source.contains(part), "no text of the gateway has {part:?}: {row}");
                quoted += 1;
            }
        }
    }
    assert!(quoted > 60, "{quoted}");
}

/// All that the gateway can say, with the line ends inside of texts taken out.
fn source() -> String {
    let mut files = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut source = String::new();
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            source += &std::fs::read_to_string(path).unwrap();
        }
    }
    let mut lines = source.split("\\\n");
    let first = lines.next().unwrap().to_owned();
    lines.fold(first, |text, line| text + line.trim_start())
}
