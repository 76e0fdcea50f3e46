use super::Report;
pub(crate) fn render(_report: &Report) -> String { String::new() }
