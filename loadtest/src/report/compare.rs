use crate::options::CompareOptions;
pub(crate) fn run(_options: &CompareOptions) -> anyhow::Result<()> { Ok(()) }
